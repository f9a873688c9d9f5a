-- What queries see now.
select pg_catalog.pg_current_snapshot()::text as seen
