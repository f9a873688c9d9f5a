-- A database on which Supabase Realtime has been: its objects stay as they are, and what the relay needs is added.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset footer off

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role supabase_realtime_admin nologin noinherit;
create role relay login replication noinherit;
create schema realtime;
grant all on schema realtime to supabase_realtime_admin;
grant usage on schema realtime to anon, authenticated, service_role;
set role supabase_realtime_admin;
create table realtime.messages (
  topic text not null, extension text not null, payload jsonb, event text, private boolean default false,
  updated_at timestamp not null default now(), inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(), primary key (id, inserted_at)
) partition by range (inserted_at);
alter table realtime.messages enable row level security;
create policy "theirs" on realtime.messages for select to authenticated using (true);
create function realtime.topic() returns text language sql stable as $$ select 'of supabase' $$;
create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
  language sql as $$ select $$;
reset role;
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
