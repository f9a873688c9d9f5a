-- Each published table, and what each role a token may name can do with it.
-- $1 text: the publication
-- $2 text[]: the roles
select jsonb_build_object(
  'schema', n.nspname,
  'name', c.relname,
  'quoted', format('%I.%I', n.nspname, c.relname),
  'quoted_schema', quote_ident(n.nspname),
  'owner', pg_get_userbyid(c.relowner),
  'identity', c.relreplident,
  'has_key', exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary),
  'has_identity_index', exists (select from pg_index i where i.indrelid = c.oid and i.indisreplident),
  'has_rls', c.relrowsecurity,
  'row_filter', to_jsonb(t) ->> 'rowfilter',
  'columns_left_out', coalesce((
    select jsonb_agg(a.attname order by a.attnum)
    from pg_attribute a
    where a.attrelid = c.oid
      and a.attnum > 0
      and not a.attisdropped
      and a.attgenerated = ''
      and to_jsonb(t) ? 'attnames'
      and not (to_jsonb(t) -> 'attnames') ? a.attname
  ), '[]'),
  'roles', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', r.rolname,
      'may_use_schema', has_schema_privilege(r.oid, n.oid, 'usage'),
      'may_select', has_table_privilege(r.oid, c.oid, 'select') or has_any_column_privilege(r.oid, c.oid, 'select'),
      'is_owner', c.relowner = r.oid,
      'bypasses', r.rolsuper or r.rolbypassrls
        or (pg_has_role(r.oid, c.relowner, 'usage') and not c.relforcerowsecurity),
      'policies', policies.applying,
      'named_policies', policies.naming
    ) order by array_position($2::text[], r.rolname::text)), '[]')
    from pg_roles r
    cross join lateral (
      select
        count(*) filter (where exists (
          select from unnest(p.polroles) as named (oid) where named.oid = 0 or pg_has_role(r.oid, named.oid, 'usage')
        )) as applying,
        count(*) filter (where r.oid = any (p.polroles)) as naming
      from pg_policy p
      where p.polrelid = c.oid and p.polpermissive and p.polcmd in ('r', '*')
    ) policies
    where r.rolname = any ($2::text[])
  )
) as found
from pg_publication_tables t
join pg_namespace n on n.nspname = t.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
where t.pubname = $1::text
order by n.nspname, c.relname
