-- What is so now.

select
  (select count(*) from pg_inherits i where i.inhparent = 'realtime.messages'::regclass) as "days of messages",
  (select c.relrowsecurity from pg_class c where c.oid = 'realtime.messages'::regclass) as "row level security",
  exists (
    select from pg_publication_rel r
    join pg_publication p on p.oid = r.prpubid
    where p.pubname = 'supabase_realtime_messages_publication' and r.prrelid = 'realtime.messages'::regclass) as "published",
  coalesce(nullif(array_to_string(array(
    select r.rolname
    from pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role')
      and has_table_privilege(r.oid, 'realtime.messages', 'select')
    order by r.rolname), ', '), ''), 'nobody: run SUPABASE_COMPAT.sql, then this again') as "used by",
  coalesce(nullif(array_to_string(array(
    select r.rolname
    from pg_roles r
    where not r.rolsuper and has_function_privilege(r.oid, 'realtime.keep_partitions()', 'execute')
      and r.oid <> (select p.proowner from pg_proc p where p.oid = 'realtime.keep_partitions()'::regprocedure)
      and r.oid >= 16384
    order by r.rolname), ', '), ''), 'nobody: run RELAY_ROLE.sql, then this again') as "kept by";
