-- Whether a table's policies reach functions that claim to be immutable and did not come with Postgres. A plan may
-- compute those once and for all, so such a plan must not serve two principals.
-- Reached is what Postgres recorded: functions, operators, views, tables with their own policies. Of what a function
-- says in its text nothing is recorded, so whatever the text could name is reached as well: too much rather than too
-- little. Operators and casts need no name.
-- C functions of extensions are believed.
-- And whether any of them names locks of the session, which outlive a rollback.
-- And whether somebody else has given a function of a policy a namesake next to it since, which the policy's text, parsed
-- again, may mean instead.
-- $1 oid  the table
-- {fingerprint}  fingerprint_guard.sql over "found", as one number
with recursive
nameless (oid) as (
    select o.oprcode::pg_catalog.oid from pg_catalog.pg_operator as o where o.oid >= 16384
    union
    select c.castfunc from pg_catalog.pg_cast as c where c.oid >= 16384 and c.castfunc <> 0
),
reached (kind, oid) as (
    select 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, $1::pg_catalog.oid
    union
    select next.kind, next.oid
    from reached as r
    cross join lateral (
        select d.refclassid, d.refobjid
        from pg_catalog.pg_depend as d
        where d.classid = r.kind and d.objid = r.oid
          and r.kind <> 'pg_catalog.pg_class'::pg_catalog.regclass
          and d.refclassid in (
            'pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass,
            'pg_catalog.pg_operator'::pg_catalog.regclass)
        union all
        select 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid
        from pg_catalog.pg_policy as p
        where r.kind = 'pg_catalog.pg_class'::pg_catalog.regclass and p.polrelid = r.oid
        union all
        select 'pg_catalog.pg_rewrite'::pg_catalog.regclass, v.oid
        from pg_catalog.pg_rewrite as v
        where r.kind = 'pg_catalog.pg_class'::pg_catalog.regclass and v.ev_class = r.oid
        union all
        select named.kind, named.oid
        from pg_catalog.pg_proc as f
        join pg_catalog.pg_language as l on l.oid = f.prolang and l.lanname not in ('internal', 'c')
        cross join lateral (
            select pg_catalog.lower(f.prosrc) as words, pg_catalog.strpos(pg_catalog.lower(f.prosrc), 'u&"') > 0 as is_escaped
        ) as body
        cross join lateral (
            select 'pg_catalog.pg_proc'::pg_catalog.regclass as kind, n.oid
            from pg_catalog.pg_proc as n
            where n.oid >= 16384
              and (body.is_escaped
                or pg_catalog.strpos(body.words, pg_catalog.replace(pg_catalog.lower(n.proname::text), '"', '""')) > 0)
            union all
            select 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid
            from pg_catalog.pg_class as c
            where c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm')
              and (body.is_escaped
                or pg_catalog.strpos(body.words, pg_catalog.replace(pg_catalog.lower(c.relname::text), '"', '""')) > 0)
            union all
            select 'pg_catalog.pg_proc'::pg_catalog.regclass, n.oid
            from nameless as n
        ) as named
        where r.kind = 'pg_catalog.pg_proc'::pg_catalog.regclass and f.oid = r.oid and f.prosrc <> ''
    ) as next (kind, oid)
),
found as materialized (
    select
        array(
            select r.oid from reached as r where r.kind = 'pg_catalog.pg_proc'::pg_catalog.regclass
        ) as functions,
        array(
            select r.oid from reached as r where r.kind = 'pg_catalog.pg_class'::pg_catalog.regclass
        ) as relations
)
select
    found.functions,
    found.relations,
    exists (
        select
        from pg_catalog.pg_proc as f
        join pg_catalog.pg_language as l on l.oid = f.prolang
        where f.oid = any (found.functions) and f.oid >= 16384 and f.provolatile = 'i' and f.prokind = 'f'
          and not (
            l.lanname = 'c'
            and exists (
              select
              from pg_catalog.pg_depend as d
              where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = f.oid and d.deptype = 'e'))
    ) as is_folded,
    exists (
        select
        from pg_catalog.pg_proc as f
        where f.oid = any (found.functions) and pg_catalog.strpos(pg_catalog.lower(f.prosrc), 'advisory') > 0
    ) or exists (
        select
        from pg_catalog.pg_policy as p
        where p.polrelid = any (found.relations)
          and pg_catalog.strpos(pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'advisory') > 0
    ) as may_lock,
    exists (
        select
        from pg_catalog.pg_policy as p
        join pg_catalog.pg_depend as d
            on d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass and d.objid = p.oid
            and d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        join pg_catalog.pg_proc as f on f.oid = d.refobjid
        join pg_catalog.pg_proc as n
            on n.pronamespace = f.pronamespace and n.proname = f.proname and n.proowner <> f.proowner and n.oid > p.oid
        where p.polrelid = $1
    ) as has_namesake,
    {fingerprint} as fingerprint
from found;
