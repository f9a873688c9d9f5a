-- What each role may read of each table, one row per pair. A role that does not exist has no row.
-- Mirrors what Postgres itself does when the role selects: ownership and membership count through inheritance,
-- a policy without USING neither shows nor hides, and no permissive policy means no row.
-- $1 oid[]   tables
-- $2 text    publication
-- $3 text[]  roles
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
    policies.needs_stored_row
from pg_class as c
cross join pg_roles as r
cross join lateral (
    select
        -- Columns a publication's column list keeps out of the stream.
        coalesce(array_agg(distinct a.attname), '{}') as names
    from pg_attribute as a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
      and exists (
        select
        from pg_publication as p
        join pg_publication_rel as m on m.prpubid = p.oid
        where p.pubname = $2 and m.prattrs is not null
          and (m.prrelid = c.oid
            or m.prrelid in (select x.relid from pg_partition_ancestors(c.oid) as x (relid)))
          and not exists (
            select from pg_attribute as listed
            where listed.attrelid = m.prrelid and listed.attname = a.attname
              and listed.attnum = any (m.prattrs)))
) as unpublished
cross join lateral (
    select
        coalesce(array_agg(q.expression order by q.name desc) filter (where q.is_permissive), '{}')
            as permissive,
        coalesce(array_agg(q.expression order by q.name) filter (where not q.is_permissive), '{}')
            as restrictive,
        coalesce(bool_or(q.needs_stored_row), false) as needs_stored_row
    from (
        select
            p.polname as name,
            p.polpermissive as is_permissive,
            pg_get_expr(p.polqual, p.polrelid) as expression,
            -- A whole-row reference names no column of its own.
            cardinality(unpublished.names) > 0
                and strpos(pg_get_expr(p.polqual, p.polrelid), '.*') > 0
            or exists (
                select
                from pg_depend as d
                left join pg_attribute as a
                    on d.refclassid = 'pg_class'::regclass and a.attrelid = d.refobjid
                    and a.attnum = d.refobjsubid
                where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                  and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid
                  and (d.refobjsubid < 0 or a.attname = any (unpublished.names)))
            -- Row security runs a policy as it was parsed; its text is parsed again, by the role, which needs the
            -- schemas it names.
            or exists (
                select
                from pg_depend as d
                left join pg_proc as f on d.refclassid = 'pg_proc'::regclass and f.oid = d.refobjid
                left join pg_class as t on d.refclassid = 'pg_class'::regclass and t.oid = d.refobjid
                left join pg_type as y on d.refclassid = 'pg_type'::regclass and y.oid = d.refobjid
                left join pg_operator as o
                    on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
                left join pg_collation as l
                    on d.refclassid = 'pg_collation'::regclass and l.oid = d.refobjid
                where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                  and not has_schema_privilege(
                    r.oid,
                    coalesce(f.pronamespace, t.relnamespace, y.typnamespace, o.oprnamespace,
                        l.collnamespace, 'pg_catalog'::regnamespace),
                    'usage'))
                as needs_stored_row
        from pg_policy as p
        where p.polrelid = c.oid and p.polcmd in ('r', '*') and p.polqual is not null
          and exists (
            select from unnest(p.polroles) as member (oid)
            where member.oid = 0 or pg_has_role(r.oid, member.oid, 'usage'))
    ) as q
) as policies
where c.oid = any ($1::oid[]) and c.relkind in ('r', 'p') and r.rolname = any ($3::text[]);
