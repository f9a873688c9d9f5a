-- A database that has the tables already, with other names, types, policies and data: they stay as they are.
\i sql/tests/fixtures/with_compat.sql

create table public.support_agents (id bigint generated always as identity primary key, auth_id text, active boolean not null);
create table public.live_chat_sessions (
  id bigint primary key, user_id uuid not null, state text not null, agent_id bigint, started_at timestamptz not null default now(),
  last_activity timestamptz);
create table public.chat_messages (
  id bigint primary key, chat_id bigint not null references public.live_chat_sessions, "timestamp" timestamptz not null default now(),
  is_read boolean not null default false, text text);
create index their_own on public.chat_messages (chat_id, "timestamp");
alter table public.chat_messages enable row level security;
create policy "their own" on public.chat_messages for select to authenticated using (text <> 'secret');
grant select on public.chat_messages, public.live_chat_sessions to authenticated;
alter table public.live_chat_sessions replica identity nothing;
insert into public.live_chat_sessions (id, user_id, state) values (1, '00000000-0000-4000-8000-000000000001', 'open');
insert into public.chat_messages (id, chat_id, text) values (1, 1, 'kept');

create view public.shape as
  select 'column' as kind, a.attrelid::regclass::text as relation, concat(a.attname, ' ', format_type(a.atttypid, a.atttypmod)) as what
  from pg_attribute a
  where a.attnum > 0 and a.attrelid::regclass::text in ('support_agents', 'live_chat_sessions', 'chat_messages')
  union all
  select 'policy', p.tablename, p.policyname from pg_policies p
  union all
  select 'row level security', c.relname, c.relrowsecurity::text from pg_class c
  where c.relname in ('support_agents', 'live_chat_sessions', 'chat_messages')
  union all
  select 'trigger', t.tgrelid::regclass::text, t.tgname from pg_trigger t where not t.tgisinternal
  union all
  select 'grant', g.table_name, concat(g.grantee, ' ', g.privilege_type) from information_schema.role_table_grants g
  where g.table_name in ('support_agents', 'live_chat_sessions', 'chat_messages')
  union all
  select 'function', '', p.proname from pg_proc p where p.pronamespace = 'public'::regnamespace;
create table public.before as select * from public.shape;

\i sql/ENABLE_REALTIME_CHAT.sql

\echo '# columns, policies, row level security, triggers, grants and functions are as before'
(select 'gone' as difference, * from before except select 'gone', * from shape)
union all (select 'new', * from shape except select 'new', * from before);
select id, chat_id, text from chat_messages;

\echo '# the indexes, over their names'
select tablename, indexdef from pg_indexes where indexname like 'realtime%' order by indexname;

\echo '# with what was asked for done, all are ready; a second run changes nothing'
alter table public.support_agents enable row level security;
alter table public.live_chat_sessions enable row level security;
create policy p on public.support_agents using (true);
create policy p on public.live_chat_sessions using (true);
grant select on public.support_agents to authenticated;
create table public.indexes as select indexrelid, xmin as version from pg_index;
\i sql/ENABLE_REALTIME_CHAT.sql
select count(*) as "indexes changed"
from pg_index i join indexes x on x.indexrelid = i.indexrelid and x.version <> i.xmin;
