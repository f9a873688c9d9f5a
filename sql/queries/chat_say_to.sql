-- Something is said in the newest open session of a visitor. The same id again says nothing; an id that is taken by what
-- the caller may not see is an error, so that the session just opened is not kept.
-- $1 the visitor
-- $2 the message's id
-- $3 the word for closed
-- $4 … what the columns hold
insert into {messages} ({columns})
select {values}
from {sessions} s
where s.{session_id} = (
    select o.{session_id}
    from {sessions} o
    where o.{session_visitor} = $1 and o.{session_status} <> $3
    order by o.{session_created} desc
    limit 1
  )
  and not exists (select from {messages} m where m.{message_id} = $2)
