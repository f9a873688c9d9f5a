-- Schemas that the policies of published tables name and that neither a role nor the login role may use: such policies
-- can be judged on the stored row only. One row per schema.
-- $1 text    publication
-- $2 text[]  roles
select
    quote_ident(home.nspname) as schema,
    quote_ident(session_user::text) as login,
    string_agg(distinct c.oid::regclass::text, ', ') as tables,
    -- What the login role could read in the schema besides.
    (
        select string_agg(o.relname, ', ' order by o.relname)
        from pg_class as o
        where o.relnamespace = home.oid and o.relkind in ('r', 'p', 'v', 'm', 'f')
          and (has_table_privilege(session_user, o.oid, 'select')
            or has_any_column_privilege(session_user, o.oid, 'select'))
    ) as opens
from pg_publication_tables as p
join pg_namespace as n on n.nspname = p.schemaname
join pg_class as c on c.relnamespace = n.oid and c.relname = p.tablename and c.relrowsecurity
join pg_policy as q on q.polrelid = c.oid and q.polcmd in ('r', '*')
join pg_depend as d on d.classid = 'pg_policy'::regclass and d.objid = q.oid
left join pg_proc as f on d.refclassid = 'pg_proc'::regclass and f.oid = d.refobjid
left join pg_class as t on d.refclassid = 'pg_class'::regclass and t.oid = d.refobjid
left join pg_type as y on d.refclassid = 'pg_type'::regclass and y.oid = d.refobjid
left join pg_operator as o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
join pg_namespace as home
    on home.oid = coalesce(f.pronamespace, t.relnamespace, y.typnamespace, o.oprnamespace)
where p.pubname = $1
  and not has_schema_privilege(session_user, home.oid, 'usage')
  and exists (
    select from pg_roles as r
    where r.rolname = any ($2) and not r.rolsuper and not r.rolbypassrls
      and not has_schema_privilege(r.oid, home.oid, 'usage'))
group by home.nspname, home.oid
order by home.nspname;
