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

\echo '# it has been given other rights: what the relay needs is given again, what it does not need is named, and is taken here'
alter role relay inherit createdb noreplication nologin;
create role reporting;
grant reporting to relay;
\i sql/RELAY_ROLE.sql
alter role relay superuser bypassrls createrole;
\i sql/RELAY_ROLE.sql
alter role relay nosuperuser;
alter role relay nobypassrls;
alter role relay nocreaterole;
alter role relay nocreatedb;
revoke reporting from relay;
\i sql/RELAY_ROLE.sql

\echo '# undone: not while it owns something, not while it is named elsewhere, and with a slot that stays'
create database second;
\c second
create table public.of_second (id int);
grant select on public.of_second to relay;
\c postgres
create table public.of_relay (id int);
alter table public.of_relay owner to relay;
\i sql/UNDO_RELAY_ROLE.sql
alter table public.of_relay owner to postgres;
\i sql/UNDO_RELAY_ROLE.sql
\c second
revoke select on public.of_second from relay;
\c postgres
select slot_name from pg_create_logical_replication_slot('left_over', 'pgoutput');
\i sql/UNDO_RELAY_ROLE.sql
select pg_drop_replication_slot('left_over');

\echo '# a role of that name that somebody else made: it is not touched, and what is advised makes it fit'
create role relay;
revoke connect on database postgres from public;
\i sql/RELAY_ROLE.sql
select rolcanlogin, rolreplication, rolinherit from pg_roles where rolname = 'relay';
alter role relay login;
alter role relay replication;
alter role relay noinherit;
grant anon, authenticated, service_role to relay;
grant connect on database postgres to relay;
\i sql/RELAY_ROLE.sql
\i sql/UNDO_RELAY_ROLE.sql
revoke connect on database postgres from relay;
drop role relay;
\i sql/UNDO_RELAY_ROLE.sql
