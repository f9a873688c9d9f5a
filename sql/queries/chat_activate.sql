-- Somebody answered, so nobody waits any more.
-- $1 the message's id
-- $2 the word for active
-- $3 the word for waiting
-- $4 the word for an agent
update {sessions} s
set {session_status} = $2
from {messages} m
where m.{message_id} = $1 and s.{session_id} = m.{message_session} and s.{session_status} = $3 and m.{message_sender} = $4
