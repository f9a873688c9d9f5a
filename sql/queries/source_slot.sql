-- What Postgres knows of one replication slot, and who holds it.
-- $1: the slot's name.
select
    s.slot_type::text,
    s.plugin::text,
    s.database::text,
    s.active_pid,
    nullif(a.application_name, '') as application,
    to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as since,
    -- Columns that older servers lack come out null.
    to_jsonb(s) ->> 'wal_status' as wal_status,
    to_jsonb(s) ->> 'invalidation_reason' as invalidation,
    s.restart_lsn::text as restart_lsn,
    r.sent_lsn::text as sent_lsn,
    s.confirmed_flush_lsn::text as confirmed_lsn,
    here.lsn::text as server_lsn,
    pg_catalog.pg_wal_lsn_diff(here.lsn, s.restart_lsn)::int8 as retained_bytes,
    (to_jsonb(s) ->> 'safe_wal_size')::int8 as safe_bytes,
    pg_catalog.age(s.catalog_xmin)::int8 as catalog_age,
    extract(
        epoch from pg_catalog.now() - (to_jsonb(s) ->> 'inactive_since')::timestamptz
    )::int8 as inactive_s
from pg_catalog.pg_replication_slots as s
left join pg_catalog.pg_stat_activity as a on a.pid = s.active_pid
left join pg_catalog.pg_stat_replication as r on r.pid = s.active_pid
cross join (
    select case
        when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
        else pg_catalog.pg_current_wal_lsn()
    end as lsn
) as here
where s.slot_name = $1
