-- Whether the table's policies call functions that claim to be immutable and did not come with Postgres. A plan may
-- compute those once and for all, so such a plan must not serve two principals.
-- $1 oid  the table
select exists (
    select
    from pg_policy as p
    join pg_depend as d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
    join pg_proc as f on d.refclassid = 'pg_proc'::regclass and f.oid = d.refobjid
    where p.polrelid = $1 and f.provolatile = 'i' and f.oid >= 16384
) as is_folded;
