-- Drops a replication slot that nobody holds.
-- $1: the slot's name.
select pg_catalog.pg_drop_replication_slot($1)
