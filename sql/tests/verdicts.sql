-- ENABLE calls no table ready that is not, and takes nobody's function for its own; DISABLE says what is so when it failed. Each
-- statement that they advise is run, and the file again.
\i sql/tests/fixtures/with_compat.sql

\echo '# a stranger''s is_support_agent() that lets everybody in: not adopted'
create role stranger;
create function public.is_support_agent() returns boolean language sql stable security definer set search_path = '' as 'select true';
alter function public.is_support_agent() owner to stranger;
\i sql/ENABLE_REALTIME_CHAT.sql
\echo '# nor one of our own that is defined otherwise'
alter function public.is_support_agent() owner to postgres;
revoke execute on function public.is_support_agent() from public;
\i sql/ENABLE_REALTIME_CHAT.sql
alter function public.is_support_agent() rename to another_name;
\echo '# nor trigger functions that have the names'
create function public.realtime_chat_message_added() returns trigger language plpgsql as 'begin return null; end';
\i sql/ENABLE_REALTIME_CHAT.sql
drop function public.realtime_chat_message_added();
\echo '# nor a schema that has the name of the record'
create schema realtime_chat_undo authorization stranger;
comment on schema realtime_chat_undo is 'ENABLE_REALTIME_CHAT.sql: what was before: []';
\i sql/ENABLE_REALTIME_CHAT.sql
\i sql/DISABLE_REALTIME_CHAT.sql
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
alter schema realtime_chat_undo rename to another_name;
\i sql/ENABLE_REALTIME_CHAT.sql

\echo '# the function goes to a stranger afterwards, who defines it otherwise'
alter function public.is_support_agent() owner to stranger;
create or replace function public.is_support_agent() returns boolean language sql stable security definer set search_path = ''
  as 'select true';
\i sql/ENABLE_REALTIME_CHAT.sql
alter function public.is_support_agent() owner to postgres;
\i sql/ENABLE_REALTIME_CHAT.sql
create or replace function public.is_support_agent() returns boolean language sql stable security definer set search_path = ''
  as 'select exists (select from public.support_agents a where a.user_id = auth.uid() and a.is_active)';
\i sql/ENABLE_REALTIME_CHAT.sql

\echo '# another index has the name of one that is missing'
drop index realtime_chat_messages_history;
create index realtime_chat_messages_history on public.chat_messages (body);
\i sql/ENABLE_REALTIME_CHAT.sql
alter index public.realtime_chat_messages_history rename to realtime_chat_messages_history_other;
\i sql/ENABLE_REALTIME_CHAT.sql

\echo '# no primary key'
alter table public.chat_messages drop constraint chat_messages_pkey;
\i sql/ENABLE_REALTIME_CHAT.sql
alter table public.chat_messages add primary key (id);

\echo '# a schema public that is closed, in a second database whose roles are there'
create database second;
\c second
revoke usage on schema public from public;
\i sql/SUPABASE_COMPAT.sql
\i sql/ENABLE_REALTIME_CHAT.sql
set role authenticated;
select count(*) from public.chat_messages;
reset role;
grant usage on schema public to authenticated, service_role;
\i sql/ENABLE_REALTIME_CHAT.sql
set role authenticated;
select count(*) from public.chat_messages;
reset role;

\echo '# unlogged tables and a publication for all tables'
drop publication supabase_realtime;
create publication supabase_realtime for all tables;
alter table public.chat_messages set unlogged;
\i sql/ENABLE_REALTIME_CHAT.sql
alter table public.chat_messages set logged;
\i sql/ENABLE_REALTIME_CHAT.sql
drop publication supabase_realtime;

\echo '# DISABLE after a failure, and what it says of tables that were published before ENABLE'
create publication supabase_realtime for table public.support_agents;
\i sql/ENABLE_REALTIME_CHAT.sql
create function public.refuse() returns event_trigger language plpgsql as $$ begin raise exception 'not today'; end $$;
create event trigger refuse on ddl_command_end when tag in ('ALTER PUBLICATION') execute function public.refuse();
\i sql/DISABLE_REALTIME_CHAT.sql
drop event trigger refuse;
\i sql/DISABLE_REALTIME_CHAT.sql
alter publication supabase_realtime drop table public.support_agents;
\i sql/DISABLE_REALTIME_CHAT.sql

\echo '# an index that an earlier ENABLE made and did not mark'
\o /dev/null
\i sql/ENABLE_REALTIME_CHAT.sql
\o
comment on index public.realtime_chat_messages_unread is null;
\i sql/DISABLE_REALTIME_CHAT.sql
drop index public.realtime_chat_messages_unread;
\i sql/DISABLE_REALTIME_CHAT.sql

\echo '# without a record, as an earlier ENABLE left it'
\o /dev/null
\i sql/ENABLE_REALTIME_CHAT.sql
\o
drop schema realtime_chat_undo;
comment on publication supabase_realtime is null;
comment on table public.support_agents is null;
comment on table public.live_chat_sessions is null;
comment on table public.chat_messages is null;
comment on function public.is_support_agent() is null;
comment on function public.realtime_chat_session_updated() is null;
comment on function public.realtime_chat_message_added() is null;
select format('comment on index public.%I is null', c.relname) from pg_class c where c.relname like 'realtime\_chat\_%' \gexec
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
\i sql/DISABLE_REALTIME_CHAT.sql
alter table public.support_agents replica identity default;
alter table public.live_chat_sessions replica identity default;
alter table public.chat_messages replica identity default;
\i sql/DISABLE_REALTIME_CHAT.sql
