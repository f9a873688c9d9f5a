-- Opens a chat for a visitor who has none open.
-- $1 the visitor
-- $2 the word for closed
-- $3 … what the columns hold
insert into {sessions} ({columns})
select {values}
where not exists (select from {sessions} s where s.{session_visitor} = $1 and s.{session_status} <> $2)
