-- Within the caller's transaction each file is a part of it: a dry run that leaves nothing behind, with the caller's own statements;
-- alone it is all or nothing. Some editors wrap what is pasted in a transaction of their own, which then commits it.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset footer off
\pset format unaligned
\pset tuples_only on
create view public.there as
  select 'role' as kind, r.rolname as name from pg_roles r where r.oid >= 16384
  union all select 'schema', n.nspname from pg_namespace n where n.oid >= 16384 and n.nspname !~ '^pg_'
  union all select 'publication', p.pubname from pg_publication p
  union all select 'table', c.relname from pg_class c where c.relkind in ('r', 'p') and c.oid >= 16384;
set lock_timeout = '7s';

\echo '# dry runs: each file sees what the one before it made; afterwards nothing is left of them, nor of the caller''s table'
begin;
create table public.of_the_caller (id int);
\o /dev/null
\i sql/SUPABASE_COMPAT.sql
\i sql/RELAY_ROLE.sql
\i sql/ENABLE_REALTIME_CHAT.sql
\i :migrate
\o
select kind, count(*), string_agg(name, ' ' order by name) filter (where name !~ '\d') from there group by kind order by kind;
\o /dev/null
\i :undo_migrate
\i sql/DISABLE_REALTIME_CHAT.sql
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
\i sql/UNDO_RELAY_ROLE.sql
\i sql/UNDO_SUPABASE_COMPAT.sql
\o
select * from there;
show lock_timeout;
show client_min_messages;
rollback;
select * from there;

\echo '# committed: what they made stays'
\o /dev/null
begin;
\i sql/SUPABASE_COMPAT.sql
commit;
begin;
\i sql/RELAY_ROLE.sql
commit;
begin;
\i sql/ENABLE_REALTIME_CHAT.sql
commit;
begin;
\i :migrate
commit;
\o
select kind, count(*) from there group by kind order by kind;

\echo '# dry runs of those that take it back'
create table public.now_there as select * from there;
begin;
\o /dev/null
\i :undo_migrate
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
\i sql/UNDO_RELAY_ROLE.sql
\i sql/UNDO_SUPABASE_COMPAT.sql
\o
select * from there;
rollback;
(select * from there except select * from now_there) union all (select * from now_there except select * from there);

\echo '# alone, with a fault at the end: all or nothing'
\o /dev/null
\i :undo_migrate
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
create table public.chat_messages (id bigint primary key, session_id uuid, created_at timestamptz);
create function public.refuse() returns event_trigger language plpgsql
  as $$ begin raise exception 'no identity is changed today'; end $$;
create event trigger refuse on ddl_command_end when tag in ('ALTER TABLE') execute function public.refuse();
\i sql/ENABLE_REALTIME_CHAT.sql
\i :migrate
\o
select * from there where name not in ('now_there', 'auth') and kind <> 'role';
show lock_timeout;
