-- The session of a message is as new as the message.
-- $1 the message's id
update {sessions} s
set {last_message_at} = greatest(s.{last_message_at}, m.{message_at})
from {messages} m
where m.{message_id} = $1 and s.{session_id} = m.{message_session}
