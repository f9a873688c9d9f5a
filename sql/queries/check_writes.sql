-- What decides whether Postgres lets tables be updated: their identity, and what each publication makes of them. One row for
-- each ordinary table; a partitioned one counts as its partitions.
-- $1 oid[]  tables
-- $2 text   the publication that the relay reads
select jsonb_build_object(
  'table', wanted.oid::bigint,
  'quoted', format('%I.%I', n.nspname, c.relname),
  'identity', c.relreplident,
  'key', (
    select jsonb_agg(a.attname)
    from pg_index i
    join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey::int2[])
    where i.indrelid = c.oid and i.indisprimary and i.indimmediate and i.indisvalid
  ),
  'index', (
    select jsonb_agg(a.attname)
    from pg_index i
    join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey::int2[])
    where i.indrelid = c.oid and i.indisreplident and i.indimmediate and i.indisvalid
  ),
  'generated', (
    select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'is_stored', a.attgenerated = 's')), '[]')
    from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> ''
  ),
  -- Before PostgreSQL 18 generated columns are in no publication, and nothing is refused because of them.
  'judges_generated', current_setting('server_version_num')::int >= 180000,
  'publications', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', p.pubname,
      'is_ours', p.pubname = $2::text,
      'has_changes', p.pubupdate or p.pubdelete,
      -- One letter from PostgreSQL 18 on: n for none, s for stored ones.
      'has_generated', coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's',
      'columns', (
        select jsonb_agg(a.attname)
        from pg_publication_rel r
        join pg_attribute a on a.attrelid = r.prrelid and a.attnum = any (r.prattrs::int2[])
        where r.prpubid = p.oid and r.prrelid = entry.oid and r.prattrs is not null
      ),
      'filters', (
        -- The condition is kept as a tree, in which columns are numbers.
        select coalesce(jsonb_agg(distinct a.attname), '[]')
        from pg_publication_rel r
        cross join lateral regexp_matches(r.prqual::text, ':varattno (\d+)', 'g') as var (found)
        join pg_attribute a on a.attrelid = r.prrelid and a.attnum = var.found[1]::int
        where r.prpubid = p.oid and r.prrelid = entry.oid
      )
    ) order by p.pubname), '[]')
    from pg_publication p
    cross join lateral (
      -- With the root's names, what holds for the topmost published ancestor holds for the partition.
      select case when p.pubviaroot then (array_agg(up.oid order by up.level desc))[1] else c.oid end as oid
      from (
        select c.oid, 0 as level
        union
        select a.relid, a.level from pg_partition_ancestors(c.oid) with ordinality as a (relid, level) where a.relid <> c.oid
      ) up
      join pg_class k on k.oid = up.oid
      where p.puballtables
        or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = up.oid)
        or exists (
          select from pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = k.relnamespace)
      having count(*) > 0
    ) entry
  )
) as found
from unnest($1::oid[]) as wanted (oid)
cross join lateral (
  select wanted.oid
  union
  select t.relid::oid from pg_partition_tree(wanted.oid) t where t.isleaf
) member (oid)
join pg_class c on c.oid = member.oid and c.relkind = 'r'
join pg_namespace n on n.oid = c.relnamespace
order by wanted.oid, n.nspname, c.relname
