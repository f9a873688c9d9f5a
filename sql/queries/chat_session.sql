-- One session, if the caller may see it.
-- $1 its id
select {session}::text
from {sessions} s
where s.{session_id} = $1
