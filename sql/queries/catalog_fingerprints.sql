-- For each table a number that changes with whatever the catalog's word on it is made of: the table and those it is a
-- partition of, its columns, types, key and policies, what these depend on, publication, schemas, roles and memberships.
-- Reads catalogs only, so it waits for no lock on a table.
-- $1 oid[]   tables
-- $2 text    publication
-- $3 text[]  roles
with recursive held (oid) as (
    -- The roles and whatever they are members of.
    select r.oid from pg_roles as r where r.rolname = any ($3::text[] || session_user::text)
    union
    select m.roleid
    from held as one
    join pg_auth_members as m on m.member = one.oid
), reached (of_table, oid) as (
    -- The types of their columns and all they are made of.
    select a.attrelid, a.atttypid
    from pg_attribute as a
    where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
    union
    select reached.of_table, part.oid
    from reached
    join pg_type as t on t.oid = reached.oid
    cross join lateral (
        select t.typbasetype where t.typtype = 'd'
        union all
        select t.typelem where t.typoutput = 'array_out'::regproc
        union all
        select a.atttypid
        from pg_attribute as a
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as part (oid)
), everywhere as (
    select concat_ws(
        '/',
        (
            select string_agg(concat_ws(' ', n.oid, n.xmin), ',' order by n.oid)
            from pg_namespace as n
            where n.nspname !~ '^pg_(toast_)?temp_'
        ),
        (
            select string_agg(
                concat_ws(' ', r.oid, r.rolname, r.rolsuper, r.rolbypassrls, r.rolinherit), ',' order by r.oid)
            from pg_roles as r
            where r.oid in (select held.oid from held)
        ),
        (
            select string_agg(
                concat_ws(' ', m.roleid, m.member, m.xmin), ',' order by m.roleid, m.member, m.xmin::text)
            from pg_auth_members as m
            where m.member in (select held.oid from held)
        ),
        (select concat_ws(' ', p.oid, p.xmin) from pg_publication as p where p.pubname = $2),
        (
            select string_agg(concat_ws(' ', s.oid, s.xmin), ',' order by s.oid)
            from pg_publication_namespace as s
            join pg_publication as p on p.oid = s.pnpubid
            where p.pubname = $2
        ),
        (select d.datdba from pg_database as d where d.datname = current_database())) as fingerprint
)
select
    c.oid,
    hashtextextended(
        concat_ws(
            '/',
            everywhere.fingerprint,
            (
                select string_agg(concat_ws(' ', t.oid, t.xmin), ',' order by t.oid)
                from pg_class as t
                where t.oid = any (family.oids)
            ),
            (
                select string_agg(concat_ws(' ', r.oid, r.xmin), ',' order by r.oid)
                from pg_publication_rel as r
                where r.prrelid = any (family.oids)
            ),
            (
                select string_agg(concat_ws(' ', a.attnum, a.xmin), ',' order by a.attnum)
                from pg_attribute as a
                where a.attrelid = c.oid and a.attnum > 0
            ),
            (
                select string_agg(concat_ws(' ', g.oid, g.xmin), ',' order by g.oid)
                from pg_attrdef as g
                where g.adrelid = c.oid
            ),
            (
                select string_agg(concat_ws(' ', i.indexrelid, i.xmin), ',' order by i.indexrelid)
                from pg_index as i
                where i.indrelid = c.oid and i.indisprimary
            ),
            (
                select string_agg(concat_ws(' ', p.oid, p.xmin), ',' order by p.oid)
                from pg_policy as p
                where p.polrelid = c.oid
            ),
            -- What policies and generated columns name, by which their text is printed.
            (
                select string_agg(
                    concat_ws(' ', d.refclassid, d.refobjid, f.xmin, t.xmin, y.xmin, o.xmin, l.xmin), ','
                    order by d.refclassid, d.refobjid, d.objid, d.refobjsubid)
                from pg_depend as d
                left join pg_proc as f on d.refclassid = 'pg_proc'::regclass and f.oid = d.refobjid
                left join pg_class as t on d.refclassid = 'pg_class'::regclass and t.oid = d.refobjid
                left join pg_type as y on d.refclassid = 'pg_type'::regclass and y.oid = d.refobjid
                left join pg_operator as o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
                left join pg_collation as l on d.refclassid = 'pg_collation'::regclass and l.oid = d.refobjid
                where d.classid = 'pg_policy'::regclass
                  and d.objid in (select p.oid from pg_policy as p where p.polrelid = c.oid)
                  or d.classid = 'pg_attrdef'::regclass
                  and d.objid in (select g.oid from pg_attrdef as g where g.adrelid = c.oid)
            ),
            -- A column that a policy names may be that of another table.
            (
                select string_agg(concat_ws(' ', a.attrelid, a.attnum, a.xmin), ',' order by a.attrelid, a.attnum)
                from pg_attribute as a
                where (a.attrelid, a.attnum) in (
                    select d.refobjid, d.refobjsubid
                    from pg_depend as d
                    join pg_policy as p on p.oid = d.objid
                    where p.polrelid = c.oid and d.classid = 'pg_policy'::regclass
                      and d.refclassid = 'pg_class'::regclass and d.refobjsubid <> 0)
            ),
            (
                select string_agg(
                    concat_ws(
                        ' ', y.oid, y.xmin,
                        (
                            select string_agg(concat_ws(' ', e.oid, e.xmin), ',' order by e.oid)
                            from pg_enum as e
                            where e.enumtypid = y.oid
                        ),
                        (
                            select string_agg(concat_ws(' ', a.attnum, a.xmin), ',' order by a.attnum)
                            from pg_attribute as a
                            where y.typtype = 'c' and a.attrelid = y.typrelid and a.attnum > 0
                        )),
                    ',' order by y.oid)
                from reached
                join pg_type as y on y.oid = reached.oid
                where reached.of_table = c.oid
            )),
        0) as fingerprint
from pg_class as c
cross join everywhere
cross join lateral (
    select array(select a.relid::oid from pg_partition_ancestors(c.oid) as a (relid)) || c.oid as oids
) as family
where c.oid = any ($1::oid[]) and c.relkind in ('r', 'p');
