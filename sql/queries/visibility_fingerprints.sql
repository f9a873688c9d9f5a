-- What a judgement rests on besides the row, as numbers that change with it. One scan of each catalog and one aggregate: this
-- is asked with every row.
-- $1 oid[]   functions that the table's policies reach
-- $2 oid[]   relations that they reach
-- $3 oid     the table
-- $4 oid     the role
-- $5 oid[]   the role, and all roles it was a member of; what it is a member of since changes the rows of one of them
-- {guard}    fingerprint_guard.sql
-- {rights}   fingerprint_rights.sql
-- {session}  fingerprint_session.sql
select
    pg_catalog.bit_xor(v.hash) filter (where v.kind = 1) as guard,
    pg_catalog.bit_xor(v.hash) filter (where v.kind = 2) as rights,
    pg_catalog.bit_xor(v.hash) filter (where v.kind = 3) as session
from (
    select one.kind, pg_catalog.hashtextextended(one.version, one.entry) as hash
    from (
        {guard}
        union all
        {rights}
        union all
        {session}
    ) as one
) as v
