-- Takes back everything that ENABLE_REALTIME_CHAT.sql did: pg_dump --schema-only then prints what it printed before. Paste it into
-- psql or a web SQL editor; running it again changes nothing. Stop the relay before.
--
--   * What DISABLE_REALTIME_CHAT.sql takes back: the places in publication supabase_realtime, the replica identities, the indexes.
--   * The tables that ENABLE made, with their policies and triggers, if they are empty. A table that was there before stays, with
--     its rows, columns, policies and grants.
--   * The functions and the publication that ENABLE made; the publication only if nothing else is in it.
--   * Schema realtime_chat_undo, the record of all this.
--
-- It drops no row. Where a table that ENABLE made holds rows, or something else stands on what would go (a view, a policy, a
-- function that calls is_support_agent()), the whole file fails, says what it is, and nothing has changed.
-- Without a record (an ENABLE of before there was one) it changes nothing; DISABLE_REALTIME_CHAT.sql works all the same.
--
-- It is one statement and a query, so it is a transaction of its own; within yours it is part of yours, and begin; … rollback;
-- tries it.
--
-- Locks: SHARE UPDATE EXCLUSIVE on each table as it leaves the publication, then ACCESS EXCLUSIVE, for the milliseconds from there
-- to the end of the transaction. Each lock is waited for at most five seconds. Then the whole file fails and nothing has changed:
-- run it again.

do $undo$
<<undo>>
declare
  own_lock_timeout constant text := current_setting('lock_timeout');
  -- Who may do anyway what this file does: superusers, and the owners of the database and of the tables.
  trusted constant oid[] := array(
    select r.oid from pg_roles r where r.rolsuper or r.rolname = current_user
    union select d.datdba from pg_database d where d.datname = current_database()
    union select c.relowner from pg_class c
      where c.oid in (
        to_regclass('public.support_agents'), to_regclass('public.live_chat_sessions'), to_regclass('public.chat_messages')));
  item record;
  was_refused boolean;
  is_refused boolean;
  made text;
  full_ones text := '';
  callers text;
  has_rows boolean;
begin
  if to_regnamespace('realtime_chat_undo') is null then
    exit undo;
  end if;
  perform set_config('lock_timeout', '5s', true);
  if not exists (
    select
    from pg_namespace n
    join pg_class c on c.relnamespace = n.oid and c.relname = 'before' and c.relkind = 'r'
    where n.nspname = 'realtime_chat_undo' and n.nspowner = any (trusted) and c.relowner = any (trusted)
      and not c.relhasrules and not c.relhastriggers)
  then
    raise exception 'schema realtime_chat_undo is there and is not the record of ENABLE_REALTIME_CHAT.sql'
      using hint = 'Rename it, then run this file again: alter schema realtime_chat_undo rename to another_name';
  end if;

  -- Only tables of these names, whatever the record says.
  select string_agg(format('public.%I', c.relname), ', ' order by u.place) into made
  from unnest(array['chat_messages', 'live_chat_sessions', 'support_agents']) with ordinality as u (name, place)
  join pg_class c on c.oid = to_regclass('public.' || u.name)
  join realtime_chat_undo.before b on b.relation = c.oid and b.what = 'made';

  -- What goes with a table must not be lost unseen.
  if made is not null then
    execute format('lock table %s in access exclusive mode', made);
    for item in
      select b.relation as id
      from realtime_chat_undo.before b
      join pg_class c on c.oid = b.relation and c.relkind in ('r', 'p')
      where b.what = 'made'
      order by b.relation
    loop
      execute format('select exists (select from %s)', item.id) into has_rows;
      if has_rows then
        full_ones := concat_ws(', ', nullif(full_ones, ''), item.id);
      end if;
    end loop;
    if full_ones <> '' then
      raise exception 'these tables were made by ENABLE_REALTIME_CHAT.sql and hold rows: %', full_ones
        using hint = format('DISABLE_REALTIME_CHAT.sql keeps them. To drop them, save what you need, run: truncate %s; '
          'and then this file again.', made);
    end if;
  end if;

  -- Postgres does not know what the body of a function calls; its next call would fail, and with it the write that fires it.
  if obj_description(to_regprocedure('public.is_support_agent()'), 'pg_proc') like 'ENABLE\_REALTIME\_CHAT.sql: %' then
    select string_agg(p.oid::regprocedure::text, ', ' order by p.oid::regprocedure::text) into callers
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace and n.nspname not in ('pg_catalog', 'information_schema')
    where p.prosrc ~ '\mis_support_agent\M'
      and coalesce(obj_description(p.oid, 'pg_proc') not like 'ENABLE\_REALTIME\_CHAT.sql: %', true);
    if callers is not null then
      raise exception 'these functions call public.is_support_agent(), which would go: %', callers
        using hint = 'Change or drop them, then run this file again.';
    end if;
  end if;

  -- Out of the publication.
  for item in
    select b.relation as id
    from realtime_chat_undo.before b
    where b.what = 'not published'
      and exists (
        select from pg_publication_rel r
        join pg_publication p on p.oid = r.prpubid and p.pubname = 'supabase_realtime'
        where r.prrelid = b.relation)
    order by b.relation
  loop
    execute format('alter publication supabase_realtime drop table only %s', item.id);
  end loop;
  delete from realtime_chat_undo.before b where b.what = 'not published';

  -- The replica identity of before, where nobody has changed it since.
  for item in
    select b.relation as id, c.relkind,
      case
        when b.identity = 'n' then 'nothing'
        when x.relname is not null then format('using index %I', x.relname)
        else 'default'
      end as identity,
      (
        select format(case when a.attgenerated = '' and a.attidentity <> 'a' then '%1$I = %1$I' else '%1$I = default' end,
          a.attname)
        from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attgenerated <> '' or a.attidentity = 'a', a.attnum
        limit 1
      ) as assignment
    from realtime_chat_undo.before b
    join pg_class c on c.oid = b.relation and c.relreplident = 'f'
    left join pg_index i on i.indexrelid = b.identity_index and i.indrelid = b.relation and i.indisvalid
    left join pg_class x on x.oid = i.indexrelid
    where b.what = 'identity'
    order by b.relation
  loop
    -- Not where Postgres would refuse updates and deletes from then on. Planning them is enough for it to refuse; nothing is
    -- changed and no trigger runs.
    was_refused := null;
    begin
      for attempt in 1..2 loop
        is_refused := false;
        if attempt = 2 then
          execute format('alter table only %s replica identity %s', item.id, item.identity);
        end if;
        if item.relkind = 'r' then
          begin
            execute format('explain update only %s set %s where false', item.id, item.assignment);
            execute format('explain delete from only %s where false', item.id);
          exception
            when invalid_column_reference or object_not_in_prerequisite_state then is_refused := true;
            when others then null; -- Another reason than publication and identity.
          end;
        end if;
        was_refused := coalesce(was_refused, is_refused);
      end loop;
      if is_refused and not was_refused then
        raise exception using errcode = 'RL001', message = 'updates would be refused';
      end if;
    exception when sqlstate 'RL001' then
      raise exception 'with the replica identity of before (%), Postgres would refuse updates and deletes of %',
          item.identity, item.id
        using hint = 'It has no such key, and a publication has it. Give it a primary key or take it out of the publication, '
          'then run this file again.';
    end;
  end loop;
  delete from realtime_chat_undo.before b where b.what = 'identity';

  -- The indexes that ENABLE made.
  for item in
    select b.relation as id
    from realtime_chat_undo.before b
    join pg_class c on c.oid = b.relation and c.relkind in ('i', 'I')
    where b.what = 'made' and c.relname like 'realtime\_chat\_%'
    order by b.relation
  loop
    execute format('drop index %s', item.id);
  end loop;

  -- The tables, then what only they used.
  if made is not null then
    execute format('drop table %s', made);
  end if;
  for item in
    select p.oid::regprocedure as id
    from pg_proc p
    where p.oid in (
        to_regprocedure('public.realtime_chat_message_added()'), to_regprocedure('public.realtime_chat_session_updated()'),
        to_regprocedure('public.is_support_agent()'))
      and obj_description(p.oid, 'pg_proc') like 'ENABLE\_REALTIME\_CHAT.sql: %'
    order by p.proname desc
  loop
    execute format('drop function %s', item.id);
  end loop;
  if exists (
    select from pg_publication p
    where p.pubname = 'supabase_realtime' and not p.puballtables
      and obj_description(p.oid, 'pg_publication') like 'ENABLE\_REALTIME\_CHAT.sql: %'
      and not exists (select from pg_publication_rel r where r.prpubid = p.oid)
      and not exists (select from pg_publication_tables t where t.pubname = p.pubname))
  then
    drop publication supabase_realtime;
  end if;

  drop table realtime_chat_undo.before;
  drop schema realtime_chat_undo;
  perform set_config('lock_timeout', own_lock_timeout, true);
end
$undo$;

-- What is so now.
select u.name as "what",
  case when u.is_there then 'yes' else 'no' end as "is there",
  case
    when not u.is_there then null
    when to_regnamespace('realtime_chat_undo') is not null then 'not undone: see the error above'
    else u.note
  end as "note"
from (
  select 1 as place, format('table public.%s', t.name) as name, to_regclass('public.' || t.name) is not null as is_there,
    'ENABLE did not make it, or made it before it kept a record' as note
  from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) as t (name)
  union all
  select 2, format('function public.%s()', f.name), to_regprocedure(format('public.%s()', f.name)) is not null,
    'ENABLE did not make it, or made it before it kept a record'
  from unnest(array['is_support_agent', 'realtime_chat_session_updated', 'realtime_chat_message_added']) as f (name)
  union all
  select 3, 'publication supabase_realtime', exists (select from pg_publication p where p.pubname = 'supabase_realtime'),
    coalesce(
      (
        select 'other tables are in it: ' || string_agg(format('%I.%I', t.schemaname, t.tablename), ', ' order by 1)
        from pg_publication_tables t
        where t.pubname = 'supabase_realtime'
      ),
      'ENABLE did not make it, or made it before it kept a record')
) u
order by u.place, u.name;
