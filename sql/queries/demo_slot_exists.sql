-- Whether there is such a slot.
-- $1 text: its name
select exists (select from pg_replication_slots s where s.slot_name = $1::text)
