-- The connection that asks, as others see it.
select
    a.pid,
    to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as since
from pg_catalog.pg_stat_activity as a
where a.pid = pg_catalog.pg_backend_pid()
