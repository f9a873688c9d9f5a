-- Schemas of types that a role may not use though it may read columns of these types in published tables: its filters on
-- them are refused. One row per schema and role.
-- $1 text    publication
-- $2 text[]  roles
with recursive columns (relation, number, type) as (
    select c.oid, a.attnum, a.atttypid
    from pg_publication_tables as p
    join pg_namespace as n on n.nspname = p.schemaname
    join pg_class as c on c.relnamespace = n.oid and c.relname = p.tablename
    join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where p.pubname = $1
    union
    -- A domain is read as what it is based on.
    select l.relation, l.number, t.typbasetype
    from columns as l
    join pg_type as t on t.oid = l.type and t.typtype = 'd'
)
select
    quote_ident(home.nspname) as schema,
    r.rolname::text as role,
    string_agg(distinct format('%s.%s', l.relation::regclass, a.attname), ', ') as columns
from columns as l
join pg_type as t on t.oid = l.type and t.typtype <> 'd'
join pg_namespace as home on home.oid = t.typnamespace
join pg_attribute as a on a.attrelid = l.relation and a.attnum = l.number
join pg_class as c on c.oid = l.relation
join pg_roles as r on r.rolname = any ($2)
where not has_schema_privilege(r.oid, home.oid, 'usage')
  and has_schema_privilege(r.oid, c.relnamespace, 'usage')
  and has_column_privilege(r.oid, l.relation, l.number, 'select')
group by home.nspname, r.rolname
order by home.nspname, r.rolname;
