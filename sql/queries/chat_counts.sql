-- How much there is of a visitor's, as the caller sees it.
-- $1 the visitor
-- $2 the word for closed
select json_build_object(
  'sessions', count(*),
  'open', count(*) filter (where s.{session_status} <> $2),
  'messages', coalesce(sum((select count(*) from {messages} m where m.{message_session} = s.{session_id})), 0)
)::text
from {sessions} s
where s.{session_visitor} = $1
