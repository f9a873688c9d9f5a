-- Some editors wrap what is pasted in a transaction of their own, and that ends it, committed.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset footer off
\pset format unaligned
begin;
\i sql/SUPABASE_COMPAT.sql
commit;
begin;
\i sql/ENABLE_REALTIME_CHAT.sql
commit;
begin;
\i sql/DISABLE_REALTIME_CHAT.sql
commit;
select pubname, tablename from pg_publication_tables;
