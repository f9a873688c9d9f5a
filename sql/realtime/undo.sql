-- Takes back what relay migrate made: pg_dump --schema-only then prints what it printed before. Run it as the owner of schema
-- realtime, or as a superuser; run twice, nothing changes the second time. Stop the relay before; while it is connected to this
-- database, this fails and nothing has changed.
--
--   * The functions, realtime.messages, its publication and schema realtime, each if its comment says that relay migrate made it.
--     Messages of the database are kept for 72 hours at most; those that are there go with the table.
--   * Of a realtime.messages that was there before: the partitions, the index and the column that were added, the grants, the
--     table's entry in the publication, and row level security if it was off. Partitions that were dropped because they were past
--     stay dropped.
--
-- It fails, says what it is, and nothing has changed, where something stands on what would go: policies of private channels, views,
-- functions that call realtime.send() and its like. What an earlier version made before it said so in a comment stays.
--
-- It is one statement, so it is a transaction of its own; within yours it is part of yours, and begin; … rollback; tries it.
--
-- Locks: ACCESS EXCLUSIVE on realtime.messages and its partitions until the end of the transaction. It waits at most 5 seconds for
-- a lock, and gives up as a whole.

do $undo$
<<undo>>
declare
  own_lock_timeout constant text := current_setting('lock_timeout');
  -- Whom the relay logs in as.
  relay_role constant text := E'relay';
  messages constant regclass := to_regclass('realtime.messages');
  is_own constant boolean := coalesce(obj_description(to_regclass('realtime.messages'), 'pg_class') like 'relay: %', false);
  is_own_schema constant boolean :=
    coalesce(obj_description(to_regnamespace('realtime')::oid, 'pg_namespace') like 'relay: %', false);
  noted jsonb;
  item record;
  those text;
begin
  if to_regnamespace('realtime') is null then
    exit undo;
  end if;
  if exists (
    select from pg_stat_activity a where a.usename = relay_role and a.datname = current_database() and a.pid <> pg_backend_pid())
  then
    raise exception 'the relay is connected as %', quote_ident(relay_role)
      using errcode = 'object_in_use', hint = 'Stop the relay, then run this again.';
  end if;
  perform set_config('lock_timeout', '5s', true);

  -- What was changed of what was there; believed only of somebody who may change it anyway.
  select substring(obj_description(p.oid, 'pg_proc') from '^relay: .*; not so before: (\[.*)$') into noted
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
  join pg_roles o on o.oid = p.proowner
  where p.oid = to_regprocedure('realtime.keep_partitions()')
    and (o.rolsuper or o.rolname = current_user or o.oid = n.nspowner
      or o.oid = (select c.relowner from pg_class c where c.oid = messages));

  -- Postgres does not know what the body of a function calls; its next call would fail, and with it the write that fires it.
  select string_agg(p.oid::regprocedure::text, ', ' order by p.oid::regprocedure::text) into those
  from pg_proc p
  where p.pronamespace <> 'realtime'::regnamespace
    and exists (
      select from pg_proc f
      where f.pronamespace = 'realtime'::regnamespace and obj_description(f.oid, 'pg_proc') like 'relay: %'
        and p.prosrc ~ format('\mrealtime\.%s\s*\(', f.proname));
  if those is not null then
    raise exception 'these functions call functions of schema realtime, which would go: %', those
      using errcode = 'dependent_objects_still_exist', hint = 'Change or drop them, then run this again.';
  end if;

  if is_own then
    select string_agg(format('drop policy %I on realtime.messages', p.polname), '; ' order by p.polname) into those
    from pg_policy p
    where p.polrelid = messages;
    if those is not null then
      raise exception 'realtime.messages has policies, which would go with it'
        using errcode = 'dependent_objects_still_exist',
          hint = format('Save what you need, then run: %s; and then this again.', those);
    end if;
  end if;

  -- The publication.
  if exists (
    select from pg_publication p
    where p.pubname = 'supabase_realtime_messages_publication' and obj_description(p.oid, 'pg_publication') like 'relay: %')
  then
    drop publication supabase_realtime_messages_publication;
  end if;

  -- The table, or what was added to it.
  if is_own then
    drop table realtime.messages;
  elsif messages is not null then
    for item in
      select c.oid::regclass as id
      from pg_inherits i
      join pg_class c on c.oid = i.inhrelid
      where i.inhparent = messages and obj_description(c.oid, 'pg_class') = 'relay: messages of one day'
      order by c.relname
    loop
      execute format('drop table %s', item.id);
    end loop;
    if obj_description(to_regclass('realtime.messages_inserted_at_topic_index'), 'pg_class') like 'relay: %' then
      drop index realtime.messages_inserted_at_topic_index;
    end if;
    if exists (
      select from pg_attribute a
      where a.attrelid = messages and a.attname = 'binary_payload' and not a.attisdropped
        and col_description(a.attrelid, a.attnum) like 'relay: %')
    then
      -- The constraint that reads it goes with it.
      alter table realtime.messages drop column binary_payload;
    end if;
  end if;

  for item in
    select p.oid::regprocedure as id
    from pg_proc p
    where p.pronamespace = 'realtime'::regnamespace and obj_description(p.oid, 'pg_proc') like 'relay: %'
    order by p.proname
  loop
    execute format('drop function %s', item.id);
  end loop;

  -- What was noted of what was there before. Only these changes are made, whatever the comment says.
  for item in
    select u.what, u.who
    from jsonb_to_recordset(coalesce(noted, '[]')) as u (what text, who text)
    where u.who = '' or exists (select from pg_roles r where r.rolname = u.who)
    order by u.what, u.who
  loop
    case
      when item.what = 'usage' then
        execute format('revoke usage on schema realtime from %I', item.who);
      when is_own or messages is null then
        null; -- It went with the table.
      when item.what in ('select', 'insert', 'update') then
        execute format('revoke %s on realtime.messages from %I', item.what, item.who);
      when item.what = 'row level security' then
        alter table realtime.messages disable row level security;
      when item.what = 'published' then
        if exists (
          select from pg_publication_rel r
          join pg_publication p on p.oid = r.prpubid and p.pubname = 'supabase_realtime_messages_publication'
          where r.prrelid = messages)
        then
          alter publication supabase_realtime_messages_publication drop table realtime.messages;
        end if;
      else
        null;
    end case;
  end loop;

  if is_own_schema then
    drop schema realtime;
  end if;
  perform set_config('lock_timeout', own_lock_timeout, true);
end
$undo$;
