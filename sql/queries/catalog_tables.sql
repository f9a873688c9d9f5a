-- Tables as the catalog knows them now, one row each; what is no table, or is gone, has no row.
-- $1 oid[]  tables
-- $2 text   publication
select
    c.oid,
    n.nspname::text as schema,
    c.relname::text as name,
    c.relreplident::text as identity,
    c.relrowsecurity as has_row_security,
    c.relkind = 'p' as is_partitioned,
    family.ancestors,
    c.oid >= 16384 and c.relpersistence = 'p' and exists (
        select
        from pg_publication as p
        where p.pubname = $2
          and (p.puballtables
            or exists (
                select from pg_publication_rel as r
                where r.prpubid = p.oid and r.prrelid = any (c.oid || family.ancestors))
            or exists (
                select from pg_publication_namespace as s
                join pg_class as member on member.relnamespace = s.pnnspid
                where s.pnpubid = p.oid and member.oid = any (c.oid || family.ancestors)))
    ) as is_published,
    shape.names,
    shape.types,
    shape.keys,
    shape.casts,
    shape.generated,
    shape.reads
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
cross join lateral (
    select coalesce(array_agg(a.relid::oid order by a.place), '{}') as ancestors
    from pg_partition_ancestors(c.oid) with ordinality as a (relid, place)
    where a.relid <> c.oid
) as family
cross join lateral (
    select
        coalesce(array_agg(a.attname::text order by a.attnum), '{}') as names,
        coalesce(array_agg(a.atttypid order by a.attnum), '{}') as types,
        coalesce(array_agg(k.indrelid is not null order by a.attnum), '{}') as keys,
        -- Printed expressions leave out the cast that assigning them to the column implies.
        coalesce(
            array_agg(
                case when d.adbin is not null then
                    format('(%s)::%s', pg_get_expr(d.adbin, d.adrelid), format_type(base.type, base.modifier))
                end
                order by a.attnum),
            '{}') as generated,
        coalesce(array_agg(format_type(base.type, base.modifier) order by a.attnum), '{}') as casts,
        -- What generated columns read, as one JSON list per column.
        coalesce(array_agg(read.names::text order by a.attnum), '{}') as reads
    from pg_attribute as a
    left join pg_attrdef as d
        on d.adrelid = a.attrelid and d.adnum = a.attnum and a.attgenerated <> ''
    left join pg_index as k
        on k.indrelid = a.attrelid and k.indisprimary and a.attnum = any (k.indkey)
    cross join lateral (
        -- Domains are looked through: what is read from the log passed their checks when it was written.
        with recursive looked_through (type, modifier, depth) as (
            select a.atttypid, a.atttypmod, 0
            union all
            select t.typbasetype, t.typtypmod, l.depth + 1
            from looked_through as l
            join pg_type as t on t.oid = l.type
            where t.typtype = 'd'
        )
        select l.type, l.modifier from looked_through as l order by l.depth desc limit 1
    ) as base
    cross join lateral (
        select json_agg(other.attname order by other.attnum) as names
        from pg_attribute as other
        where d.oid is not null and other.attrelid = c.oid and other.attnum > 0
          and exists (
            select from pg_depend as p
            where p.refclassid = 'pg_class'::regclass and p.refobjid = c.oid and p.refobjsubid = other.attnum
              and (p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
                or p.classid = 'pg_class'::regclass and p.objid = c.oid and p.objsubid = a.attnum))
          and other.attnum <> a.attnum
    ) as read
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
) as shape
where c.oid = any ($1::oid[]) and c.relkind in ('r', 'p');
