-- The newest messages of a visitor over all sessions, oldest first.
-- $1 the visitor
-- $2 how many at most
-- $3 only those before this one
select coalesce(json_agg(page.message order by page.at, page.id), '[]')::text
from (
  select {message} as message, m.{message_at} as at, m.{message_id} as id
  from {messages} m
  join {sessions} s on s.{session_id} = m.{message_session}
  where s.{session_visitor} = $1{before}
  order by m.{message_at} desc, m.{message_id} desc
  limit $2
) page
