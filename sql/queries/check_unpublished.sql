-- Chat tables that exist and are not in the publication, and what keeps one from being in it.
-- $1 text: the publication
select jsonb_build_object(
  'oid', c.oid::bigint,
  'quoted', format('%I.%I', n.nspname, c.relname),
  'obstacle', case
    when c.relkind = 'v' then 'is a view'
    when c.relkind = 'm' then 'is a materialized view'
    when c.relkind = 'f' then 'is a foreign table'
    when c.relkind not in ('r', 'p') then 'is no table'
    when c.relpersistence = 'u' then 'is unlogged'
    when c.relpersistence = 't' then 'is temporary'
  end
) as found
from unnest(array['live_chat_sessions', 'chat_messages', 'support_agents']) with ordinality as wanted (name, place)
join pg_namespace n on n.nspname = 'public'
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
where not exists (
    select from pg_publication_tables t
    where t.pubname = $1::text and t.schemaname = n.nspname and t.tablename = c.relname)
  -- Of a partitioned table Postgres lists the partitions.
  and not exists (
    select
    from pg_publication p
    where p.pubname = $1::text and c.relkind = 'p'
      and (p.puballtables
        or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid)
        or exists (select from pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = c.relnamespace)))
order by wanted.place
