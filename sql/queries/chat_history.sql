-- The newest messages of a session, oldest first; nothing when the caller may not see the session.
-- $1 the session
-- $2 how many at most
-- $3 only those before this one
select (
  select coalesce(json_agg(page.message order by page.at, page.id), '[]')
  from (
    select {message} as message, m.{message_at} as at, m.{message_id} as id
    from {messages} m
    where m.{message_session} = s.{session_id}{before}
    order by m.{message_at} desc, m.{message_id} desc
    limit $2
  ) page
)::text
from {sessions} s
where s.{session_id} = $1
