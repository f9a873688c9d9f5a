-- Ends the connection that holds a slot, if it is the one that is meant.
-- $1: the slot's name.
-- $2: the process id.
select pg_catalog.pg_terminate_backend(s.active_pid) as ended
from pg_catalog.pg_replication_slots as s
where s.slot_name = $1
  and s.active_pid = $2
