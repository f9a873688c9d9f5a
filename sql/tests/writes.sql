-- ENABLE never makes a write fail, and what stops one anyway it says, with what mends it; each of these is done, and ENABLE run again.
-- After each run a row of every table, partition and child is written, changed and deleted.
\i sql/tests/fixtures/with_compat.sql
\o /dev/null
\i sql/ENABLE_REALTIME_CHAT.sql
\o
drop table chat_messages;
create procedure public.write_everywhere() language plpgsql as $$
declare
  member record;
begin
  for member in
    with recursive tree (oid) as (
      select to_regclass('public.chat_messages')::oid union select i.inhrelid from tree t join pg_inherits i on i.inhparent = t.oid)
    select c.oid::regclass as name, 10 * row_number() over (order by c.relname) as id
    from tree t join pg_class c on c.oid = t.oid and c.relkind = 'r'
    order by c.relname
  loop
    begin
      execute format('insert into %s (id, body) values (%s, %L)', member.name, member.id, 'a');
      execute format('update only %s set body = %L', member.name, 'b');
      execute format('delete from only %s', member.name);
      raise notice 'wrote to %', member.name;
    exception when others then
      raise notice '%', sqlerrm;
    end;
  end loop;
end
$$;
create procedure public.let_everybody_read() language plpgsql as $$
begin
  alter table chat_messages enable row level security;
  create policy p on chat_messages for select using (true);
  grant select on chat_messages to authenticated;
end
$$;

\echo '# a child that inherits, without a key'
create table chat_messages (id int primary key, session_id uuid, created_at timestamptz, read_at timestamptz, body text);
create table chat_messages_old (closed text) inherits (chat_messages);
call let_everybody_read();
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
\echo '# the child gets its key; another child is made, which is not published'
alter table public.chat_messages_old add primary key (id);
create table chat_messages_new () inherits (chat_messages);
call write_everywhere();
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
drop table chat_messages cascade;

\echo '# partitions without a key; one of them is unlogged'
create table chat_messages (id int, session_id uuid, created_at timestamptz, read_at timestamptz, body text) partition by range (id);
create table chat_messages_1 partition of chat_messages for values from (0) to (20);
create unlogged table chat_messages_2 partition of chat_messages for values from (20) to (30);
call let_everybody_read();
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
\echo '# a partition that is made afterwards refuses, as the result said, until ENABLE runs again'
alter table public.chat_messages_2 set logged;
create table chat_messages_3 partition of chat_messages for values from (30) to (40);
call write_everywhere();
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
\echo '# with a key it does not'
alter table chat_messages add primary key (id);
create table chat_messages_4 partition of chat_messages for values from (40) to (50);
call write_everywhere();
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
drop table chat_messages cascade;

\echo '# an unlogged table; as a logged one it is published with every other, so it must be fit for that'
drop publication supabase_realtime;
create publication supabase_realtime for all tables;
create unlogged table chat_messages (id int, session_id uuid, created_at timestamptz, read_at timestamptz, body text);
call let_everybody_read();
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
alter table public.chat_messages set logged;
call write_everywhere();
alter table public.chat_messages add primary key (id);
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();

\echo '# other publications list columns: of the table, and of a child without a key, which then cannot be published'
create table chat_messages_old (closed text) inherits (chat_messages);
drop publication supabase_realtime;
alter table chat_messages replica identity default;
create publication reports for table only chat_messages (id, body);
create publication archive for table only chat_messages_old (id) with (publish = 'insert');
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
alter publication archive set (publish = 'insert, update, delete');
call write_everywhere();
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
alter publication archive set table only chat_messages_old;
alter publication reports set table only chat_messages;
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
drop publication archive, reports;
drop table chat_messages_old;

\echo '# a row filter that reads a column outside the key: full identity mends the table'
alter publication supabase_realtime drop table chat_messages;
alter table chat_messages replica identity default;
alter publication supabase_realtime add table chat_messages where (body <> '');
call write_everywhere();
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();

\echo '# a table that refused before, and does for another reason: the result names it'
create publication reports for table chat_messages (id);
call write_everywhere();
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
alter publication reports set table chat_messages;
\i sql/ENABLE_REALTIME_CHAT.sql
call write_everywhere();
