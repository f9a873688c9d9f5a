-- What the chat API needs of its tables, one row for each.
-- $1 text    array of {what, schema, name, columns: {meaning: column}}, as JSON
-- $2 text[]  the roles
-- $3 text    the publication
select jsonb_build_object(
  'what', wanted.what,
  'name', format('%I.%I', wanted.schema, wanted.name),
  'exists', c.oid is not null,
  'missing', (
    select coalesce(jsonb_agg(format('%s (%s)', m.name, m.meaning) order by m.meaning), '[]')
    from json_each_text(wanted.columns) as m (meaning, name)
    where not exists (
      select
      from pg_attribute a
      where a.attrelid = c.oid and a.attname = m.name and a.attnum > 0 and not a.attisdropped)
  ),
  'is_published', exists (
    select
    from pg_publication_tables t
    join pg_namespace home on home.nspname = t.schemaname
    join pg_class k on k.relnamespace = home.oid and k.relname = t.tablename
    where t.pubname = $3::text
      and (k.oid = c.oid or k.oid in (select part.relid from pg_partition_tree(c.oid) part))
  ),
  -- Roles that tokens name and policies bind, by what they can do.
  'readers', able.readers,
  'writers', able.writers
) as found
from json_to_recordset($1::text::json) as wanted (what text, schema text, name text, columns json)
left join pg_namespace n on n.nspname = wanted.schema
left join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name and c.relkind in ('r', 'p', 'v', 'f')
cross join lateral (
  select
    coalesce(jsonb_agg(r.rolname order by r.rolname) filter (where
      (has_table_privilege(r.oid, c.oid, 'select') or has_any_column_privilege(r.oid, c.oid, 'select'))
      and (not c.relrowsecurity or policies.read)), '[]') as readers,
    coalesce(jsonb_agg(r.rolname order by r.rolname) filter (where
      (has_table_privilege(r.oid, c.oid, 'insert') or has_any_column_privilege(r.oid, c.oid, 'insert'))
      and (not c.relrowsecurity or policies.write)), '[]') as writers
  from pg_roles r
  cross join lateral (
    select
      coalesce(bool_or(p.polcmd in ('r', '*')), false) as read,
      coalesce(bool_or(p.polcmd in ('a', '*')), false) as write
    from pg_policy p
    where p.polrelid = c.oid and p.polpermissive
      and exists (
        select from unnest(p.polroles) as named (oid) where named.oid = 0 or pg_has_role(r.oid, named.oid, 'usage'))
  ) policies
  where r.rolname = any ($2::text[]) and not r.rolsuper and not r.rolbypassrls
    and c.oid is not null and has_schema_privilege(r.oid, n.oid, 'usage')
) able
