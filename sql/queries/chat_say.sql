-- Somebody says something in a session, if they are on the side that is meant. The same id again says nothing.
-- $1 the session
-- $2 the message's id
-- $3 text  the caller's sub
-- $4 … what the columns hold
insert into {messages} ({columns})
select {values}
from {sessions} s
where s.{session_id} = $1
  and s.{session_visitor}::text {side} $3::text
  and not exists (select from {messages} m where m.{message_id} = $2)
on conflict do nothing
