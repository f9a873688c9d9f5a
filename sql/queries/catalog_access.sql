-- What each role may read of each table, one row per pair. A role that does not exist has no row.
-- Mirrors what Postgres itself does when the role selects: ownership and membership count through inheritance,
-- a policy without USING neither shows nor hides, and no permissive policy means no row.
-- $1 oid[]   tables
-- $2 text[]  roles
-- {fingerprint}     fingerprint_rights.sql of c.oid and r.oid, as one number
select
    c.oid,
    r.rolname::text as role,
    has_schema_privilege(r.oid, c.relnamespace, 'usage') as has_usage,
    has_table_privilege(r.oid, c.oid, 'select') as has_table,
    array(
        select a.attname::text
        from pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and has_column_privilege(r.oid, c.oid, a.attnum, 'select')
        order by a.attnum
    ) as columns,
    c.relrowsecurity
        and not r.rolsuper
        and not r.rolbypassrls
        and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage')) as is_bound,
    policies.permissive,
    policies.restrictive,
    reads.columns as reads_columns,
    reads.table_oid as reads_table_oid,
    reads.stored as reads_stored,
    -- Row security runs a policy as it was parsed; its text is parsed again, by somebody who needs the schemas it names.
    exists (
        select from unnest(names.schemas) as n (oid)
        where not has_schema_privilege(r.oid, n.oid, 'usage')
    ) as has_foreign_names,
    (
        select who.rolname::text
        from unnest($2::text[] || session_user::text) with ordinality as wanted (name, place)
        join pg_roles as who on who.rolname = wanted.name
        where (who.rolname = session_user
            or pg_has_role(
                session_user, who.oid,
                case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end))
          -- A plan that depends on row security is made by whoever runs it, who parses the text again.
          and not exists (
            select
            from pg_depend as d
            join pg_class as t on t.oid = d.refobjid
            where d.classid = 'pg_policy'::regclass and d.objid = any (policies.oids)
              and d.refclassid = 'pg_class'::regclass and t.oid <> c.oid and t.relrowsecurity)
          and not exists (
            select from unnest(names.schemas) as n (oid)
            where not has_schema_privilege(who.oid, n.oid, 'usage'))
        order by wanted.place
        limit 1
    ) as reader,
    {fingerprint} as fingerprint
from pg_class as c
cross join pg_roles as r
cross join lateral (
    select
        coalesce(array_agg(q.oid), array[]::oid[]) as oids,
        coalesce(array_agg(q.expression order by q.name desc) filter (where q.is_permissive), array[]::text[])
            as permissive,
        coalesce(array_agg(q.expression order by q.name) filter (where not q.is_permissive), array[]::text[])
            as restrictive
    from (
        select
            p.oid,
            p.polname as name,
            p.polpermissive as is_permissive,
            pg_get_expr(p.polqual, p.polrelid) as expression
        from pg_policy as p
        where p.polrelid = c.oid and p.polcmd in ('r', '*') and p.polqual is not null
          and exists (
            select from unnest(p.polroles) as member (oid)
            where member.oid = 0 or pg_has_role(r.oid, member.oid, 'usage'))
    ) as q
) as policies
cross join lateral (
    -- What is recorded of a policy includes its check; a column that the condition does not name is not read by it.
    select
        coalesce(array_agg(distinct a.attname::text) filter (where a.attnum > 0), array[]::text[]) as columns,
        coalesce(bool_or(a.attname = 'tableoid'), false) as table_oid,
        coalesce(bool_or(a.attnum < 0 and a.attname <> 'tableoid'), false) as stored
    from pg_depend as d
    join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where d.classid = 'pg_policy'::regclass and d.objid = any (policies.oids)
      and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and d.refobjsubid <> 0
      and strpos(
        array_to_string(policies.permissive || policies.restrictive, ' '),
        replace(a.attname, '"', '""')) > 0
) as reads
cross join lateral (
    select
        coalesce(
            array_agg(distinct coalesce(f.pronamespace, t.relnamespace, y.typnamespace, o.oprnamespace, l.collnamespace)),
            array[]::oid[]) as schemas
    from (
        select d.refclassid, d.refobjid
        from pg_depend as d
        where d.classid = 'pg_policy'::regclass and d.objid = any (policies.oids)
        union
        -- Generated columns may be computed for a policy, and values are read as the types of columns.
        select d.refclassid, d.refobjid
        from pg_attrdef as g
        join pg_attribute as a on a.attrelid = g.adrelid and a.attnum = g.adnum and a.attgenerated <> ''
        join pg_depend as d on d.classid = 'pg_attrdef'::regclass and d.objid = g.oid
        where g.adrelid = c.oid and a.attname = any (reads.columns)
        union
        select 'pg_type'::regclass, a.atttypid
        from pg_attribute as a
        where a.attrelid = c.oid and a.attname = any (reads.columns)
    ) as d
    left join pg_proc as f on d.refclassid = 'pg_proc'::regclass and f.oid = d.refobjid
    left join pg_class as t on d.refclassid = 'pg_class'::regclass and t.oid = d.refobjid
    left join pg_type as y on d.refclassid = 'pg_type'::regclass and y.oid = d.refobjid
    left join pg_operator as o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
    left join pg_collation as l on d.refclassid = 'pg_collation'::regclass and l.oid = d.refobjid
    where coalesce(f.pronamespace, t.relnamespace, y.typnamespace, o.oprnamespace, l.collnamespace) is not null
) as names
where c.oid = any ($1::oid[]) and c.relkind in ('r', 'p') and r.rolname = any ($2::text[]);
