-- Ends the connection that holds a slot, if it still does.
-- $1 text: the slot's name
select pg_terminate_backend(s.active_pid) as ended
from pg_replication_slots s
where s.slot_name = $1::text
  and s.active_pid is not null
