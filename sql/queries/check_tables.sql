-- Each table that clients may watch, and what each role a token may name can do with it. Partitions that are published because
-- their parent is count as the parent: rights and policies are the parent's when its rows are read through it. The table of
-- messages is listed as well, published or not, because its policies decide about private channels.
-- $1 text: the publication
-- $2 text[]: the roles
with listed as (
  select c.oid, p.oid as publication, p.puballtables, to_jsonb(t) as entry
  from pg_publication p
  join pg_publication_tables t on t.pubname = p.pubname
  join pg_namespace n on n.nspname = t.schemaname
  join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
  where p.pubname = $1::text
),
watched as (
  select
    coalesce(parent.oid, l.oid) as oid,
    bool_or(exists (
      select from pg_publication_rel r where r.prpubid = l.publication and r.prrelid = coalesce(parent.oid, l.oid)
    )) as is_named,
    min(l.entry ->> 'rowfilter') as row_filter,
    (array_agg(l.entry -> 'attnames'))[1] as columns
  from listed l
  left join lateral (
    select a.relid::oid as oid
    from pg_partition_ancestors(l.oid) with ordinality as a (relid, level)
    join pg_class c on c.oid = a.relid
    where l.puballtables
      or exists (select from pg_publication_rel r where r.prpubid = l.publication and r.prrelid = c.oid)
      or exists (
        select from pg_publication_namespace s where s.pnpubid = l.publication and s.pnnspid = c.relnamespace)
    order by a.level desc
    limit 1
  ) parent on true
  group by 1
),
wanted as (
  select w.*, false as is_messages from watched w
  union all
  select c.oid, false, null, '[]', true
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'realtime' and c.relname = 'messages' and c.relkind = 'p'
    and not exists (select from watched w where w.oid = c.oid)
)
select jsonb_build_object(
  'oid', c.oid::bigint,
  'schema', n.nspname,
  'name', c.relname,
  'quoted', format('%I.%I', n.nspname, c.relname),
  'quoted_schema', quote_ident(n.nspname),
  'owner', pg_get_userbyid(c.relowner),
  'is_named', w.is_named,
  'is_messages', w.is_messages,
  'is_partitioned', c.relkind = 'p',
  'has_key', exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary),
  'has_rls', c.relrowsecurity,
  'row_filter', w.row_filter,
  'columns_left_out', coalesce((
    select jsonb_agg(a.attname order by a.attnum)
    from pg_attribute a
    where a.attrelid = c.oid
      and a.attnum > 0
      and not a.attisdropped
      and a.attgenerated = ''
      and not w.columns ? a.attname
  ), '[]'),
  -- Partitions that a role may read by their own names, past the policies of their parent.
  'open_partitions', coalesce((
    select jsonb_agg(format('%I.%I', home.nspname, part.relname) order by part.relname)
    from pg_partition_tree(c.oid) t
    join pg_class part on part.oid = t.relid and part.oid <> c.oid and not part.relrowsecurity
    join pg_namespace home on home.oid = part.relnamespace
    where c.relrowsecurity and exists (
      select from pg_roles r
      where r.rolname = any ($2::text[]) and not r.rolsuper and not r.rolbypassrls
        and has_schema_privilege(r.oid, home.oid, 'usage')
        and (has_table_privilege(r.oid, part.oid, 'select') or has_any_column_privilege(r.oid, part.oid, 'select')))
  ), '[]'),
  'roles', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', r.rolname,
      'may_use_schema', has_schema_privilege(r.oid, n.oid, 'usage'),
      'may_select', has_table_privilege(r.oid, c.oid, 'select') or has_any_column_privilege(r.oid, c.oid, 'select'),
      'is_owner', c.relowner = r.oid,
      'bypasses', r.rolsuper or r.rolbypassrls
        or (pg_has_role(r.oid, c.relowner, 'usage') and not c.relforcerowsecurity),
      'policies', policies.found,
      -- What the role could read besides this table if it had USAGE on the schema.
      'opens', case when has_schema_privilege(r.oid, n.oid, 'usage') then '[]' else opens.found end
    ) order by array_position($2::text[], r.rolname::text)), '[]')
    from pg_roles r
    cross join lateral (
      select coalesce(jsonb_agg(jsonb_build_object(
        'name', p.polname,
        'is_permissive', p.polpermissive,
        'is_for_role', r.oid = any (p.polroles),
        'expression', pg_get_expr(case when p.polcmd = 'a' then p.polwithcheck else p.polqual end, p.polrelid)
      ) order by p.polname), '[]') as found
      from pg_policy p
      -- Who may send is decided by those for INSERT.
      where p.polrelid = c.oid and (p.polcmd in ('r', '*') or w.is_messages and p.polcmd = 'a')
        and exists (
          select from unnest(p.polroles) as named (oid) where named.oid = 0 or pg_has_role(r.oid, named.oid, 'usage'))
    ) policies
    cross join lateral (
      select coalesce(jsonb_agg(other.name order by other.name), '[]') as found
      from (
        select o.relname::text as name
        from pg_class o
        where o.relnamespace = n.oid and o.oid <> c.oid and o.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
          and (has_table_privilege(r.oid, o.oid, 'select')
            or o.relkind <> 'S' and has_any_column_privilege(r.oid, o.oid, 'select'))
        union all
        -- One that runs with its owner's rights may show whatever its owner can read.
        select f.proname || '()'
        from pg_proc f
        where f.pronamespace = n.oid and f.prosecdef and has_function_privilege(r.oid, f.oid, 'execute')
      ) other
    ) opens
    where r.rolname = any ($2::text[])
  )
) as found
from wanted w
join pg_class c on c.oid = w.oid
join pg_namespace n on n.oid = c.relnamespace
order by n.nspname, c.relname
