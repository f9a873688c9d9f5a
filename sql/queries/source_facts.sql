-- What a logical stream needs of the server and of the database.
-- $1: the publication's name.
-- $2: the name of the publication of messages.
select
    pg_catalog.current_setting('server_version_num')::int4 as version,
    pg_catalog.current_setting('wal_level') as wal_level,
    pg_catalog.pg_is_in_recovery() as is_standby,
    pg_catalog.current_setting('max_replication_slots')::int4 as slots_allowed,
    (select pg_catalog.count(*)::int4 from pg_catalog.pg_replication_slots) as slots_used,
    pg_catalog.current_setting('max_wal_senders')::int4 as senders_allowed,
    exists (select from pg_catalog.pg_publication where pubname = $1) as has_publication,
    exists (select from pg_catalog.pg_publication where pubname = $2) as has_messages,
    (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()) as database,
    (
        select rolsuper or rolreplication
        from pg_catalog.pg_roles
        where rolname = current_user
    ) as may_replicate
