-- A session, and whether it is closed.
-- $1 the session
-- $2 the word for closed
select {session}::text, s.{session_status} = $2
from {sessions} s
where s.{session_id} = $1
