-- Takes back what ENABLE_REALTIME_CHAT.sql did for realtime, and keeps the data. Paste it once into psql or a web SQL editor;
-- running it again changes nothing.
--
--   * support_agents, live_chat_sessions and chat_messages leave publication supabase_realtime. The publication itself stays.
--   * Their replica identity goes back to default (the primary key). If it was something else before ENABLE, set it by hand.
--   * The indexes named realtime_chat_… go. Indexes of other names, primary keys and unique constraints stay.
--
-- Tables, rows, row level security, policies, triggers and functions stay as they are.
--
-- Locks: ACCESS EXCLUSIVE on each table, for the milliseconds from there to the commit; nothing is rewritten. Each lock is waited
-- for at most five seconds. Then the whole file fails and nothing has changed: run it again.

begin;

set local lock_timeout = '5s';

do $$
declare
  relation record;
  member regclass;
begin
  for relation in
    select c.oid, c.relname as name,
      array(select t.relid::regclass from pg_partition_tree(c.oid) t union select c.oid::regclass) as members
    from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) with ordinality as u (name, place)
    join pg_class c on c.oid = to_regclass('public.' || u.name) and c.relkind in ('r', 'p')
    order by u.place
  loop
    if exists (
      select from pg_publication_rel r
      join pg_publication p on p.oid = r.prpubid and p.pubname = 'supabase_realtime'
      where r.prrelid = relation.oid)
    then
      execute format('alter publication supabase_realtime drop table public.%I', relation.name);
    end if;

    foreach member in array relation.members loop
      -- Without a primary key, and still published elsewhere, default identity would make Postgres refuse updates and deletes.
      continue when not exists (select from pg_index i where i.indrelid = member and i.indisprimary)
        and exists (
          select from pg_publication_tables t
          join pg_class c on c.oid = member and c.relname = t.tablename and c.relnamespace = to_regnamespace(t.schemaname::text));
      if (select c.relreplident = 'f' from pg_class c where c.oid = member) then
        execute format('alter table %s replica identity default', member);
      end if;
    end loop;
  end loop;
end
$$;

do $$
declare
  index_name text;
begin
  -- Only those that exist, so that a second run has nothing to say.
  for index_name in
    select u.name
    from unnest(array[
      'realtime_chat_agents_user',
      'realtime_chat_sessions_queue', 'realtime_chat_sessions_visitor', 'realtime_chat_sessions_agent',
      'realtime_chat_messages_history', 'realtime_chat_messages_unread']) as u (name)
    where to_regclass('public.' || u.name) is not null
  loop
    execute format('drop index public.%I', index_name);
  end loop;
end
$$;

commit;

-- What is so now.
with fact as (
  select u.name, u.place, c.oid, c.relrowsecurity, c.relreplident,
    (select count(*) from pg_policy y where y.polrelid = c.oid) as policies,
    (select count(*) from pg_index i join pg_class x on x.oid = i.indexrelid
      where i.indrelid = c.oid and x.relname like 'realtime\_chat\_%') as indexes,
    (
      select string_agg(distinct t.pubname::text, ', ')
      from pg_publication_tables t
      where t.schemaname = 'public' and t.tablename = u.name
    ) as publications,
    exists (
      select from pg_publication_tables t
      where t.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = u.name
    ) as is_published
  from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) with ordinality as u (name, place)
  left join pg_class c on c.oid = to_regclass('public.' || u.name)
)
select
  f.name as "table",
  case when f.is_published then 'yes' else 'no' end as "in publication",
  case f.relreplident when 'd' then 'default' when 'f' then 'full' when 'i' then 'index' when 'n' then 'nothing' end
    as "replica identity",
  case when f.oid is not null then
    format('%s, %s %s', case when f.relrowsecurity then 'on' else 'off' end, f.policies,
      case f.policies when 1 then 'policy' else 'policies' end)
  end as "row level security and policies",
  f.indexes as "indexes of ENABLE",
  case when f.is_published or f.relreplident = 'f' or f.indexes > 0 then 'no' else 'yes' end as "disabled",
  case
    when f.oid is null then 'the table does not exist'
    when f.is_published then 'supabase_realtime publishes every table of the database or of the schema: that is not undone here'
    when f.relreplident = 'f' then format('no primary key, and publication %s still has it: full identity stays', f.publications)
  end as "note"
from fact f
order by f.place;
