-- The relay's role: it may stream and become the API roles, and nothing else.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset footer off
\pset format unaligned

\echo '# before SUPABASE_COMPAT.sql there is nobody to become'
\i sql/RELAY_ROLE.sql
\o /dev/null
\i sql/SUPABASE_COMPAT.sql
\i sql/ENABLE_REALTIME_CHAT.sql
\o
insert into live_chat_sessions (visitor_id) values ('00000000-0000-4000-8000-000000000001');

\echo '# after it, twice'
\i sql/RELAY_ROLE.sql
\i sql/RELAY_ROLE.sql
select rolcanlogin, rolreplication, rolinherit, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls from pg_roles where rolname = 'relay';

\echo '# by itself it reads nothing'
set session authorization relay;
select count(*) from public.live_chat_sessions;
select auth.uid();
select count(*) from pg_authid;
create table public.mine (id int);

\echo '# as somebody it reads what they may'
set role authenticated;
select set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-000000000001"}', false) as claims \gset
select count(*) from public.live_chat_sessions;
set role anon;
select count(*) from public.live_chat_sessions;
set role postgres;
reset role;

\echo '# it may make a slot and read the log'
select slot_name from pg_create_logical_replication_slot('mine', 'pgoutput');
select pg_drop_replication_slot('mine');
reset session authorization;

\echo '# a role that was there, with other rights'
alter role relay inherit createdb noreplication nologin;
create role reporting;
grant reporting to relay;
\i sql/RELAY_ROLE.sql
