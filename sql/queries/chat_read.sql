-- What the other side said is read.
-- $1 the session
-- $2 text  the caller's sub
-- $3 text  the word for a visitor
-- $4 text  the word for an agent
-- $5 the word for read, where there is one
update {messages} m
set {changes}
from {sessions} s
where s.{session_id} = $1
  and m.{message_session} = s.{session_id}
  and m.{message_sender}::text <> case when s.{session_visitor}::text = $2::text then $3::text else $4::text end
  and {unread}
