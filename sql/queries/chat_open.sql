-- A visitor opens a chat. The same id again opens none.
-- $1 its id
-- $2 … what the columns hold
insert into {sessions} ({columns})
select {values}
where not exists (select from {sessions} s where s.{session_id} = $1)
on conflict do nothing
