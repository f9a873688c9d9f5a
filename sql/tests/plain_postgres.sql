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
