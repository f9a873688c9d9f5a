-- What was said to or by a visitor, as it was stored.
-- $1 the visitor
-- $2 the message's id
select {message}::text
from {messages} m
join {sessions} s on s.{session_id} = m.{message_session}
where s.{session_visitor} = $1 and m.{message_id} = $2
