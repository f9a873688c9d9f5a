-- Types and every type they are made of, one row each, and the snapshot in which they are so.
-- $1 oid[]  types
with recursive reached (oid) as (
    select unnest($1::oid[])
    union
    select part.oid
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
)
select
    t.oid,
    t.typname::text as name,
    t.typtype::text as kind,
    case
        when t.typtype = 'd' then t.typbasetype
        when t.typoutput = 'array_out'::regproc then t.typelem
        else 0::oid
    end as inner_type,
    t.typdelim::text as delimiter,
    t.typtype = 'b' and t.typname = 'hstore' as is_hstore,
    array(
        select e.enumlabel::text from pg_enum as e where e.enumtypid = t.oid order by e.enumsortorder
    ) as labels,
    array(
        select a.attname::text from pg_attribute as a
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    ) as attribute_names,
    array(
        select a.atttypid from pg_attribute as a
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    ) as attribute_types,
    pg_current_snapshot()::text as seen
from reached
join pg_type as t on t.oid = reached.oid;
