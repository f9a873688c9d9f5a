-- What binding a filter needs to know of columns, one row per column that exists.
-- $1 oid[]   tables
-- $2 text[]  column names
-- $3 oid[]   their types, domains looked through
select
    wanted.place,
    format_type(wanted.type, -1) as type_name,
    quote_ident(home.nspname) as type_schema,
    format_type(a.atttypid, null) as shown_type,
    own.operators,
    own.has_like and t.typcategory = 'S' as has_like,
    own.has_match and t.typcategory = 'S' as has_match,
    -- 100 is the database's default collation.
    case when a.attcollation not in (0, 100)
        then quote_ident(n.nspname) || '.' || quote_ident(c.collname) end as collation,
    locale.provider,
    locale.locale_order,
    locale.locale_letters,
    c.collisdeterministic as is_deterministic,
    current_setting('server_encoding') as encoding
from unnest($1, $2, $3) with ordinality as wanted (relation, name, type, place)
join pg_attribute as a
    on a.attrelid = wanted.relation and a.attname = wanted.name and not a.attisdropped
join pg_type as t on t.oid = wanted.type
join pg_namespace as home on home.oid = t.typnamespace
join pg_database as d on d.datname = current_database()
left join pg_collation as c on c.oid = a.attcollation
left join pg_namespace as n on n.oid = c.collnamespace
cross join lateral (
    select
        min(quote_ident(s.nspname)) filter (where s.nspname <> 'pg_catalog') as operators,
        coalesce(bool_or(o.oprname = '~~'), false) as has_like,
        coalesce(bool_or(o.oprname = '~'), false) as has_match
    from pg_operator as o
    join pg_namespace as s on s.oid = o.oprnamespace
    where o.oprleft = wanted.type and o.oprright = wanted.type and o.oprname in ('=', '~~', '~')
) as own
cross join lateral (
    -- Columns that came with later versions are read as JSON, so that older ones need not have them.
    select to_jsonb(c) as own, to_jsonb(d) as inherited
) as described
cross join lateral (
    select
        case
            when c.oid is null then null
            when c.collprovider = 'd' then coalesce(described.inherited ->> 'datlocprovider', 'c')
            else c.collprovider::text
        end as provider,
        case
            when c.collprovider = 'd' then coalesce(
                described.inherited ->> 'datlocale', described.inherited ->> 'daticulocale',
                d.datcollate::text)
            else coalesce(
                described.own ->> 'colllocale', described.own ->> 'colliculocale',
                c.collcollate::text)
        end as locale_order,
        case
            when c.collprovider = 'd' then coalesce(
                described.inherited ->> 'datlocale', described.inherited ->> 'daticulocale',
                d.datctype::text)
            else coalesce(
                described.own ->> 'colllocale', described.own ->> 'colliculocale',
                c.collctype::text)
        end as locale_letters
) as locale
order by wanted.place;
