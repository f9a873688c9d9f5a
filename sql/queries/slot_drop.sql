-- Drops a slot; fails while somebody holds it.
-- $1 text: the slot's name
select from pg_drop_replication_slot($1::text::name)
