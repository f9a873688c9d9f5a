-- Writes a message into the WAL, outside of any transaction, and answers where it ends.
-- $1: its content.
select pg_catalog.pg_logical_emit_message(false, 'relay', $1::text)::text as lsn
