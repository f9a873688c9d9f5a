-- What this transaction sees, a place in the WAL behind everything it sees, and what it is to read.
-- $1 oid[]  tables
select
    pg_catalog.pg_current_snapshot()::text as seen,
    pg_catalog.pg_current_wal_insert_lsn()::text as until,
    array(
        select "class"."relkind" is not distinct from 'p'
        from unnest($1::pg_catalog.oid[]) with ordinality as "asked" ("oid", "place")
        left join pg_catalog.pg_class as "class" on "class"."oid" = "asked"."oid"
        order by "asked"."place"
    ) as is_partitioned
