-- Opens a chat for a visitor who has none open, to say something that was not said before.
-- $1 the visitor
-- $2 the word for closed
-- $3 the message's id
-- $4 … what the columns hold
insert into {sessions} ({columns})
select {values}
where not exists (select from {sessions} s where s.{session_visitor} = $1 and s.{session_status} <> $2)
  and not exists (select from {messages} m where m.{message_id} = $3)
