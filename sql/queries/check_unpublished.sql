-- Chat tables that exist and are not in the publication.
-- $1 text: the publication
select coalesce(jsonb_agg(format('%I.%I', n.nspname, c.relname) order by wanted.place), '[]') as found
from unnest(array['live_chat_sessions', 'chat_messages', 'support_agents']) with ordinality as wanted (name, place)
join pg_namespace n on n.nspname = 'public'
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name and c.relkind in ('r', 'p')
where not exists (
  select from pg_publication_tables t
  where t.pubname = $1::text and t.schemaname = n.nspname and t.tablename = c.relname
)
