-- On a Supabase database COMPAT changes nothing, and ENABLE adds to what is there. The database is made to look like one: roles
-- with grants of their own, auth functions with other bodies, default privileges that grant everything, a publication in use.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset footer off

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role supabase_auth_admin nologin noinherit;
create schema auth authorization supabase_auth_admin;
create function auth.uid() returns uuid language sql stable
  as $$ select nullif(current_setting('request.jwt.claims', true)::jsonb ->> 'sub', '')::uuid $$;
create function auth.role() returns text language sql stable as $$ select 'of supabase' $$;
create function auth.jwt() returns jsonb language sql stable as $$ select '{"of": "supabase"}'::jsonb $$;
alter function auth.uid() owner to supabase_auth_admin;
grant usage on schema public, auth to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
create table public.todos (id int primary key);
create publication supabase_realtime for table public.todos;

create temporary table before as
  select 'function' as kind, p.oid, p.xmin as version from pg_proc p
  union all select 'schema', n.oid, n.xmin from pg_namespace n
  union all select 'role', r.oid, r.xmin from pg_authid r
  union all select 'membership', m.roleid, m.xmin from pg_auth_members m;

\i sql/SUPABASE_COMPAT.sql

\echo '# COMPAT changed nothing'
with now as (
  select 'function' as kind, p.oid, p.xmin as version from pg_proc p
  union all select 'schema', n.oid, n.xmin from pg_namespace n
  union all select 'role', r.oid, r.xmin from pg_authid r
  union all select 'membership', m.roleid, m.xmin from pg_auth_members m
)
select
  (select count(*) from (select * from before except select * from now) d) as gone,
  (select count(*) from (select * from now except select * from before) d) as new;
select auth.role(), auth.jwt();

\echo '# ENABLE adds the three tables to the publication that is there'
\i sql/ENABLE_REALTIME_CHAT.sql
select tablename from pg_publication_tables where pubname = 'supabase_realtime' order by 1;

\echo '# default privileges granted everything on the new tables; ENABLE took back what visitors and agents do not need'
select c.relname, r.role, p.privilege
from pg_class c
cross join unnest(array['anon', 'authenticated']) as r (role)
cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) as p (privilege)
where c.relname in ('support_agents', 'live_chat_sessions', 'chat_messages')
  and has_table_privilege(r.role, c.oid, p.privilege)
order by 1, 2, 3;
select table_name, privilege_type, string_agg(column_name, ', ' order by column_name) as columns
from information_schema.column_privileges
where grantee = 'authenticated' and privilege_type <> 'SELECT' and table_schema = 'public'
  and table_name in ('support_agents', 'live_chat_sessions', 'chat_messages')
group by 1, 2 order by 1, 2;
select r.role, has_function_privilege(r.role, 'public.is_support_agent()', 'execute') as "may ask is_support_agent()"
from unnest(array['anon', 'authenticated', 'service_role']) as r (role);
