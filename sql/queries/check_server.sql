-- The server's version and the settings logical replication stands on.
-- $1 text: the slot
select to_jsonb(found) as server
from (
  select
    current_setting('server_version') as version,
    current_setting('server_version_num')::int as version_number,
    current_database() as database,
    current_setting('application_name') as application,
    pg_is_in_recovery() as is_standby,
    current_setting('wal_level') as wal_level,
    current_setting('max_replication_slots')::int as most_slots,
    (select count(*) from pg_replication_slots) as slots,
    (
        select coalesce(jsonb_agg(s.slot_name order by s.slot_name), '[]')
        from pg_replication_slots s
        where s.slot_name <> $1::text and not s.temporary
    ) as other_slots,
    current_setting('max_wal_senders')::int as most_senders,
    (select count(*) from pg_stat_get_wal_senders()) as senders,
    current_setting('synchronous_standby_names') as synchronous_standbys,
    (
      select coalesce(max(extract(epoch from now() - a.xact_start)), 0)::bigint
      from pg_stat_activity a
      where a.backend_type = 'client backend'
        and a.backend_xid is not null
        and a.pid <> pg_backend_pid()
    ) as oldest_writer_s
) found
