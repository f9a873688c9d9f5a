-- Plain Postgres: ENABLE names what is missing and changes nothing; COMPAT brings it; then ENABLE works. Each twice.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset footer off

\echo '# without SUPABASE_COMPAT.sql, ENABLE says what to run first'
\i sql/ENABLE_REALTIME_CHAT.sql
select count(*) as tables from pg_tables where schemaname = 'public';

\echo '# COMPAT, twice'
\i sql/SUPABASE_COMPAT.sql
create temporary table after_first as
  select 'function' as kind, p.oid, p.xmin as version from pg_proc p where p.pronamespace = 'auth'::regnamespace
  union all select 'schema', n.oid, n.xmin from pg_namespace n where n.nspname in ('auth', 'public')
  union all select 'role', r.oid, r.xmin from pg_authid r;
\i sql/SUPABASE_COMPAT.sql
select count(*) as "changed by the second run"
from (
  select * from after_first
  except (
    select 'function', p.oid, p.xmin from pg_proc p where p.pronamespace = 'auth'::regnamespace
    union all select 'schema', n.oid, n.xmin from pg_namespace n where n.nspname in ('auth', 'public')
    union all select 'role', r.oid, r.xmin from pg_authid r)
) d;

\echo '# the roles and what they may'
select rolname, rolcanlogin, rolinherit, rolbypassrls from pg_roles
where rolname in ('anon', 'authenticated', 'service_role') order by 1;

\echo '# nobody asks: null'
select auth.uid(), auth.role(), auth.jwt();
\echo '# the claims of a token'
select set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-00000000000a","role":"authenticated","x":1}', false) as claims \gset
set role authenticated;
select auth.uid(), auth.role(), auth.jwt();
\echo '# the settings of older gateways win'
select set_config('request.jwt.claim.sub', '00000000-0000-4000-8000-00000000000b', false) as sub \gset
select auth.uid();
reset role;
reset request.jwt.claims;
reset request.jwt.claim.sub;

\echo '# ENABLE, twice'
\i sql/ENABLE_REALTIME_CHAT.sql
\i sql/ENABLE_REALTIME_CHAT.sql

\echo '# what COMPAT made is not undone while ENABLE stands on it, and the roles stay while another database uses them'
create database second;
\c second
\o /dev/null
\i sql/SUPABASE_COMPAT.sql
\o
\c postgres
\i sql/UNDO_SUPABASE_COMPAT.sql
create table public.another (id int primary key);
alter publication supabase_realtime add table public.another;
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
alter publication supabase_realtime drop table public.another;
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
create function public.asks() returns uuid language sql as 'select auth.uid()';
\i sql/UNDO_SUPABASE_COMPAT.sql
drop function public.asks();
\i sql/UNDO_SUPABASE_COMPAT.sql
\c second
\i sql/UNDO_SUPABASE_COMPAT.sql
\c postgres
\i sql/UNDO_SUPABASE_COMPAT.sql

\echo '# where roles, schema and functions were there, COMPAT names what is lacking; each is done'
create role anon;
create role authenticated;
create role service_role;
create schema auth;
create function auth.uid() returns uuid language sql stable as 'select null::uuid';
revoke execute on function auth.uid() from public;
revoke usage on schema public from public;
\i sql/SUPABASE_COMPAT.sql
grant usage on schema public to anon, authenticated, service_role;
grant usage on schema auth to anon, authenticated, service_role;
grant execute on function auth.uid() to anon, authenticated, service_role;
alter role service_role bypassrls;
\i sql/SUPABASE_COMPAT.sql
\echo '# and what was there stays'
\i sql/UNDO_SUPABASE_COMPAT.sql
