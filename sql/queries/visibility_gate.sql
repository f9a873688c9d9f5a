-- Whether this statement's snapshot sees the commits of all these transactions. The WAL tells of a commit before
-- queries see it. The WAL's 32-bit ids are widened to the nearest 64-bit id.
-- $1 bigint[]  transaction ids
select coalesce(
    pg_catalog.bool_and(pg_catalog.pg_visible_in_snapshot(
        (now.xmax + ((asked.low - now.xmax + 2147483648) & 4294967295) - 2147483648)::text::xid8,
        now.snapshot)),
    true)
from pg_catalog.unnest($1::bigint[]) as asked (low)
cross join (
    select pg_catalog.pg_current_snapshot() as snapshot,
        pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint as xmax
) as now
