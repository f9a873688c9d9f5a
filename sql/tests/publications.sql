-- Publications and identities of every kind, before ENABLE and after DISABLE. The tables must stay writable throughout.
\i sql/tests/fixtures/with_compat.sql
\o /dev/null
\i sql/ENABLE_REALTIME_CHAT.sql
\o
insert into live_chat_sessions (id, visitor_id) values ('00000000-0000-4000-8000-0000000000c1', gen_random_uuid());
insert into chat_messages (session_id, sender_type, body) values ('00000000-0000-4000-8000-0000000000c1', 'visitor', 'kept');

\echo '# DISABLE, twice'
\i sql/DISABLE_REALTIME_CHAT.sql
\i sql/DISABLE_REALTIME_CHAT.sql
select body from chat_messages;
select pubname from pg_publication;

\echo '# and ENABLE again'
\i sql/ENABLE_REALTIME_CHAT.sql

\echo '# a publication that leaves operations out'
alter publication supabase_realtime set (publish = 'insert');
\i sql/ENABLE_REALTIME_CHAT.sql
alter publication supabase_realtime set (publish = 'insert, update, delete, truncate');

\echo '# a publication with a list of columns: full identity would stop every update, so it is left alone'
alter publication supabase_realtime drop table chat_messages;
alter table chat_messages replica identity default;
create publication reports for table chat_messages (id, body);
\i sql/ENABLE_REALTIME_CHAT.sql
update chat_messages set read_at = now();
drop publication reports;

\echo '# a publication with a row filter'
alter publication supabase_realtime drop table chat_messages;
alter publication supabase_realtime add table chat_messages where (sender_type <> 'system');
\i sql/ENABLE_REALTIME_CHAT.sql

\echo '# a table without a primary key that another publication has: DISABLE leaves it writable'
alter table chat_messages drop constraint chat_messages_pkey;
create publication reports for table chat_messages;
\i sql/DISABLE_REALTIME_CHAT.sql
update chat_messages set read_at = now();
drop publication reports;

\echo '# a publication for all tables'
drop publication supabase_realtime;
create publication supabase_realtime for all tables;
\i sql/ENABLE_REALTIME_CHAT.sql
\i sql/DISABLE_REALTIME_CHAT.sql
drop publication supabase_realtime;

\echo '# a partitioned table: its partitions carry the identity'
drop table chat_messages;
create table chat_messages (id int, session_id uuid, created_at timestamptz, read_at timestamptz, primary key (id, session_id))
  partition by hash (session_id);
create table chat_messages_0 partition of chat_messages for values with (modulus 2, remainder 0);
create table chat_messages_1 partition of chat_messages for values with (modulus 2, remainder 1);
\i sql/ENABLE_REALTIME_CHAT.sql
select relname, relreplident from pg_class where relname ~ '^chat_messages(_.)?$' order by 1;
\i sql/DISABLE_REALTIME_CHAT.sql
select relname, relreplident from pg_class where relname ~ '^chat_messages(_.)?$' order by 1;

\echo '# a stored generated column: updates must go on, with a publication that was there and with one of our own'
drop publication supabase_realtime;
drop table chat_messages;
create table chat_messages (id int primary key, session_id uuid, created_at timestamptz, read_at timestamptz, body text,
  size int generated always as (length(body)) stored);
create publication supabase_realtime;
\o /dev/null
\i sql/ENABLE_REALTIME_CHAT.sql
\o
insert into chat_messages (id, body) values (1, 'a');
update chat_messages set body = 'abc' returning size;
drop publication supabase_realtime;
\i sql/ENABLE_REALTIME_CHAT.sql
update chat_messages set body = 'abcd' returning size;

\echo '# a publication for the tables of a schema, with a partitioned table, by its partitions and by itself'
drop publication supabase_realtime;
drop table chat_messages;
create table chat_messages (id int primary key, session_id uuid, created_at timestamptz, read_at timestamptz, body text)
  partition by range (id);
create table chat_messages_1 partition of chat_messages for values from (0) to (20);
create publication supabase_realtime for tables in schema public;
\i sql/ENABLE_REALTIME_CHAT.sql
\i sql/DISABLE_REALTIME_CHAT.sql
alter publication supabase_realtime set (publish_via_partition_root = true);
\i sql/ENABLE_REALTIME_CHAT.sql
\i sql/DISABLE_REALTIME_CHAT.sql
