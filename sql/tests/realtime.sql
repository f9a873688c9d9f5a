-- Schema realtime on plain Postgres: made, used, and made again without a change.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset footer off

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role relay login replication noinherit;

\echo '# made'
\i :migrate
\i sql/realtime/result.sql

\echo '# made again: nothing changes'
create temporary table before as
  select 'relation' as kind, c.oid, c.xmin as version from pg_class c where c.relnamespace = 'realtime'::regnamespace
  union all select 'column', a.attrelid, a.xmin from pg_attribute a
    join pg_class c on c.oid = a.attrelid where c.relnamespace = 'realtime'::regnamespace
  union all select 'schema', n.oid, n.xmin from pg_namespace n where n.nspname = 'realtime'
  union all select 'publication', p.oid, p.xmin from pg_publication p
  union all select 'published', p.oid, p.xmin from pg_publication_rel p;
\i :migrate
with now as (
  select 'relation' as kind, c.oid, c.xmin as version from pg_class c where c.relnamespace = 'realtime'::regnamespace
  union all select 'column', a.attrelid, a.xmin from pg_attribute a
    join pg_class c on c.oid = a.attrelid where c.relnamespace = 'realtime'::regnamespace
  union all select 'schema', n.oid, n.xmin from pg_namespace n where n.nspname = 'realtime'
  union all select 'publication', p.oid, p.xmin from pg_publication p
  union all select 'published', p.oid, p.xmin from pg_publication_rel p
)
select
  (select count(*) from (select * from before except select * from now) d) as gone,
  (select count(*) from (select * from now except select * from before) d) as new;

\echo '# the relay may call three functions and read nothing'
set role relay;
select count(*) from realtime.messages;
insert into realtime.messages (topic, extension) values ('t', 'broadcast');
select realtime.keep_partitions();
select * from realtime.replay('t', '-infinity', 1);
begin;
select extension from realtime.probe('t', '{broadcast, presence}');
rollback;
reset role;
\echo '# nobody else may call them'
set role authenticated;
select realtime.keep_partitions();
select * from realtime.replay('t', '-infinity', 1);
select * from realtime.probe('t', '{broadcast}');
reset role;

\echo '# without a policy, sending as a user is a warning and no error'
set role authenticated;
select realtime.send('{"a": 1}', 'e', 't');
reset role;
select count(*) as messages from realtime.messages;

\echo '# a policy sees the topic that is sent to'
create policy "to the lobby" on realtime.messages for insert to authenticated with check (realtime.topic() = 'lobby');
set role authenticated;
select realtime.send('{"a": 1}', 'e', 'elsewhere');
select realtime.send('{"a": 1}', 'e', 'lobby');
reset role;

\echo '# the id is in the payload, unless it has one; private by default'
select realtime.send('{"id": 7}', 'own', 't', false);
select realtime.send_binary('\x00ff', 'bytes', 't');
select m.topic, m.extension, m.event, m.private, m.payload - 'id' as payload, m.binary_payload,
  m.payload ->> 'id' = m.id::text as "its id",
  m.inserted_at between timezone('utc', now()) - interval '1 minute' and timezone('utc', now()) as "in utc"
from realtime.messages m order by m.event;

\echo '# what cannot be sent is a warning'
select realtime.send('[1]', 'e', 't');
select realtime.send(null, 'e', 't');
select realtime.send_binary('\x00', 'bytes', repeat('t', 247));
select realtime.send_binary('\x00', repeat('e', 256), 't');
\echo '# a topic of another session time zone lands in the right day'
set timezone = 'Pacific/Kiritimati';
select realtime.send('{}', 'far', 't');
select m.tableoid::regclass::text = 'realtime.messages_' || to_char(timezone('utc', now()), 'YYYY_MM_DD') as "today"
from realtime.messages m where m.event = 'far';
reset timezone;

\echo '# changes of rows'
create table things (id int primary key, name text);
create function announce() returns trigger language plpgsql as $$
begin
  perform realtime.broadcast_changes('things:' || coalesce(new.id, old.id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
  return null;
end
$$;
create trigger announce after insert or update or delete on things for each row execute function announce();
insert into things values (1, 'a');
update things set name = 'b';
delete from things;
select m.topic, m.event, m.private, m.payload - 'id' as payload from realtime.messages m where m.topic like 'things:%'
order by m.inserted_at, m.event;
\echo '# for each row only'
do $$ begin perform realtime.broadcast_changes('t', 'e', 'INSERT', 'a', 'b', null, null, 'STATEMENT'); end $$;

\echo '# replay: the newest, oldest first, private ones of that topic'
truncate realtime.messages;
insert into realtime.messages (topic, extension, event, private, payload, inserted_at)
select 'r', 'broadcast', 'e' || n, true, '{}', timezone('utc', now()) - n * interval '1 second' from generate_series(1, 4) n;
insert into realtime.messages (topic, extension, event, private) values
  ('r', 'broadcast', 'public', false), ('r', 'presence', 'other', true), ('other', 'broadcast', 'other', true);
select event from realtime.replay('r', timezone('utc', now())::timestamp - interval '1 hour', 3);
select event from realtime.replay('r', timezone('utc', now())::timestamp - interval '1500 milliseconds', 25);

\echo '# partitions: what is past is dropped, what is missing is made, and none can be read around the policies'
select format('create table realtime.messages_%1$s partition of realtime.messages for values from (%2$L) to (%3$L)',
  to_char(day, 'YYYY_MM_DD'), day, day + 1) as statement
from (select (timezone('utc', now()) - n * interval '1 day')::date as day from unnest(array[3, 4, 5]) n) d \gexec
select format('drop table realtime.messages_%s', to_char(timezone('utc', now()) + interval '3 days', 'YYYY_MM_DD')) \gexec
select realtime.keep_partitions();
select to_date(c.relname, '"messages_"YYYY_MM_DD') - timezone('utc', now())::date as "days from today", c.relrowsecurity
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'realtime.messages'::regclass order by 1;
