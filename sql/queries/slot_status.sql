-- What a slot holds back, and who holds it; no row when there is no such slot.
-- $1 text: the slot's name
select to_jsonb(found) as slot
from (
  select
    s.slot_name as name,
    s.plugin,
    s.slot_type as type,
    s.database,
    current_database() as here,
    s.active_pid as pid,
    a.application_name as application,
    extract(epoch from now() - r.reply_time)::bigint as silent_s,
    s.wal_status,
    s.restart_lsn::text as restart_lsn,
    s.confirmed_flush_lsn::text as confirmed_lsn,
    pg_wal_lsn_diff(w.written, s.confirmed_flush_lsn)::bigint as lag_bytes,
    pg_wal_lsn_diff(w.written, s.restart_lsn)::bigint as retained_bytes,
    s.safe_wal_size,
    age(s.catalog_xmin)::bigint as catalog_age,
    current_setting('max_slot_wal_keep_size') as keep_size,
    pg_size_bytes(current_setting('max_slot_wal_keep_size')) as keep_bytes,
    current_setting('server_version_num')::int as version,
    pg_is_in_recovery() as is_standby,
    oldest.pid as oldest_pid,
    oldest.open_s as oldest_open_s,
    -- These are PostgreSQL 17's.
    to_jsonb(s) ->> 'inactive_since' as inactive_since,
    to_jsonb(s) ->> 'invalidation_reason' as invalidation_reason,
    (to_jsonb(s) ->> 'failover')::bool as failover,
    (to_jsonb(s) ->> 'synced')::bool as synced,
    s.temporary as is_temporary,
    current_setting('synchronized_standby_slots', true) as standby_slots
  from pg_replication_slots s
  cross join lateral (
    select case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end as written
  ) w
  left join pg_stat_activity a on a.pid = s.active_pid
  left join pg_stat_replication r on r.pid = s.active_pid
  -- The oldest transaction that writes: WAL from its beginning on is kept however far the slot is.
  left join lateral (
    select t.pid, extract(epoch from now() - t.xact_start)::bigint as open_s
    from pg_stat_activity t
    where t.backend_xid is not null
    order by t.xact_start
    limit 1
  ) oldest on true
  where s.slot_name = $1::text
) found
