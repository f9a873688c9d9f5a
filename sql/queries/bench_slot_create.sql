-- A slot that decodes as the relay's does.
-- $1 text: its name
select from pg_create_logical_replication_slot($1::text::name, 'pgoutput')
