-- A database on which Supabase Realtime has been: its objects stay as they are, and what the relay needs is added.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset footer off

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role supabase_realtime_admin nologin noinherit;
create role relay login replication noinherit;
\i sql/tests/fixtures/realtime_of_supabase.sql
grant usage on schema realtime to service_role;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
create publication supabase_realtime_messages_publication for table realtime.messages;

create temporary table before as
  select 'function' as kind, p.oid, p.xmin as version from pg_proc p where p.pronamespace = 'realtime'::regnamespace
  union all select 'policy', p.oid, p.xmin from pg_policy p
  union all select 'publication', p.oid, p.xmin from pg_publication p
  union all select 'default', d.oid, d.xmin from pg_attrdef d where d.adrelid = 'realtime.messages'::regclass;

\i :migrate

\echo '# nothing of theirs is gone'
select count(*) as gone
from (
  select * from before
  except (
    select 'function', p.oid, p.xmin from pg_proc p
    union all select 'policy', p.oid, p.xmin from pg_policy p
    union all select 'publication', p.oid, p.xmin from pg_publication p
    union all select 'default', d.oid, d.xmin from pg_attrdef d)
) d;
select realtime.topic();

\echo '# what was missing is there'
select p.proname, p.proowner::regrole as owner, p.prosecdef as "with its owner's rights", p.proconfig
from pg_proc p where p.pronamespace = 'realtime'::regnamespace order by 1;
select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a
where a.attrelid = 'realtime.messages'::regclass and a.attname = 'binary_payload';
\i sql/realtime/result.sql

\echo '# messages of one transaction are replayed as they were inserted, the last of them when there are more'
set timezone = 'UTC';
do $$
begin
  for n in 1..12 loop
    insert into realtime.messages (topic, extension, event, private, payload) values ('r', 'broadcast', n::text, true, '{}');
  end loop;
end $$;
select string_agg(event, ' ' order by place) as events
from realtime.replay('r', timezone('utc', now())::timestamp - interval '1 hour', 9)
  with ordinality as kept (id, event, payload, binary_payload, place);
