-- What was said, as it was stored; nothing when the caller may not see the session.
-- $1 the session
-- $2 the message's id
select (select {message} from {messages} m where m.{message_id} = $2 and m.{message_session} = s.{session_id})::text
from {sessions} s
where s.{session_id} = $1
