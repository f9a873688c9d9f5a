-- Tables as the catalog knows them now, one row each; what is no table, or is gone, has no row.
-- $1 oid[]  tables
-- $2 text   publication
select
    c.oid,
    n.nspname::text as schema,
    c.relname::text as name,
    c.relreplident::text as identity,
    c.relrowsecurity as has_row_security,
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
    shape.generated
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
                    format('(%s)::%s', pg_get_expr(d.adbin, d.adrelid),
                        format_type(a.atttypid, a.atttypmod))
                end
                order by a.attnum),
            '{}') as generated
    from pg_attribute as a
    left join pg_attrdef as d
        on d.adrelid = a.attrelid and d.adnum = a.attnum and a.attgenerated <> ''
    left join pg_index as k
        on k.indrelid = a.attrelid and k.indisprimary and a.attnum = any (k.indkey)
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
) as shape
where c.oid = any ($1::oid[]) and c.relkind in ('r', 'p');
