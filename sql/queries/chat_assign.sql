-- An agent takes a session that nobody has.
-- $1 the session
-- $2 text  the caller's sub
-- $3 the word for active
-- $4 the word for closed
update {sessions} s
set {session_agent} = a.{agent_id}, {session_status} = $3
from {agents} a
where a.{agent_user}::text = $2 and s.{session_id} = $1 and s.{session_agent} is null and s.{session_status} <> $4
