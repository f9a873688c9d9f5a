-- Takes back everything that ENABLE_REALTIME_CHAT.sql did: pg_dump --schema-only then prints what it printed before. Paste it into
-- psql or a web SQL editor; running it again changes nothing. Stop the relay before.
--
--   * What DISABLE_REALTIME_CHAT.sql takes back: tables added to publication supabase_realtime, replica identities, indexes.
--   * The tables that ENABLE made, with their policies and triggers, if they are empty. A table that was there before stays, with
--     its rows, columns, policies and grants.
--   * The functions and the publication that ENABLE made; the publication only if nothing else is in it.
--   * Schema realtime_chat_undo, the record of what was before.
--
-- It drops no row. Where a table that ENABLE made holds rows, or something else stands on what would go (a view, a policy, a
-- function that calls is_support_agent()), the whole file fails, says what it is, and nothing has changed.
-- What ENABLE made says so in its comment. What an ENABLE of before it said so made stays; DISABLE_REALTIME_CHAT.sql works all the
-- same.
--
-- It is one statement and a query, so it is a transaction of its own; within yours it is part of yours, and begin; … rollback;
-- tries it.
--
-- Locks: SHARE UPDATE EXCLUSIVE on each table as it leaves the publication, then ACCESS EXCLUSIVE, for the milliseconds from there
-- to the end of the transaction. Each lock is waited for at most five seconds. Then the whole file fails and nothing has changed:
-- run it again.

do $undo$
declare
  own_lock_timeout constant text := current_setting('lock_timeout');
  here constant oid := (select d.oid from pg_database d where d.datname = current_database());
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
  noted jsonb := '[]';
begin
  perform set_config('lock_timeout', '5s', true);
  if to_regnamespace('realtime_chat_undo') is not null then
    if not exists (
      select from pg_namespace n
      where n.nspname = 'realtime_chat_undo' and n.nspowner = any (trusted)
        and obj_description(n.oid, 'pg_namespace') like 'ENABLE\_REALTIME\_CHAT.sql: %')
    then
      raise exception 'schema realtime_chat_undo is there and is not the record of ENABLE_REALTIME_CHAT.sql'
        using hint = 'Rename it, then run this file again: alter schema realtime_chat_undo rename to another_name';
    end if;
    noted := substring(obj_description('realtime_chat_undo'::regnamespace, 'pg_namespace') from '\[.*$');
  end if;

  select string_agg(format('public.%I', c.relname), ', ' order by u.place) into made
  from unnest(array['chat_messages', 'live_chat_sessions', 'support_agents']) with ordinality as u (name, place)
  join pg_class c on c.oid = to_regclass('public.' || u.name)
    and obj_description(c.oid, 'pg_class') like 'ENABLE\_REALTIME\_CHAT.sql: %';

  -- What goes with a table must not be lost unseen.
  if made is not null then
    execute format('lock table %s in access exclusive mode', made);
    for item in
      select c.oid::regclass as id
      from pg_class c
      where c.oid in (
          to_regclass('public.support_agents'), to_regclass('public.live_chat_sessions'), to_regclass('public.chat_messages'))
        and obj_description(c.oid, 'pg_class') like 'ENABLE\_REALTIME\_CHAT.sql: %'
      order by c.relname
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
    select c.oid::regclass as id
    from jsonb_to_recordset(noted) as b (database oid, relation text, oid oid, what text, identity text, identity_index text)
    join pg_class c on c.oid = to_regclass(b.relation) and (c.oid = b.oid or here <> b.database)
    where b.what = 'not published'
      and exists (
        select from pg_publication_rel r
        join pg_publication p on p.oid = r.prpubid and p.pubname = 'supabase_realtime'
        where r.prrelid = c.oid)
    order by b.relation
  loop
    execute format('alter publication supabase_realtime drop table only %s', item.id);
  end loop;

  -- The replica identity of before, where nobody has changed it since.
  for item in
    select c.oid::regclass as id, c.relkind,
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
    from jsonb_to_recordset(noted) as b (database oid, relation text, oid oid, what text, identity text, identity_index text)
    join pg_class c on c.oid = to_regclass(b.relation) and (c.oid = b.oid or here <> b.database) and c.relreplident = 'f'
    left join pg_class x on x.relname = b.identity_index
      and exists (select from pg_index i where i.indexrelid = x.oid and i.indrelid = c.oid and i.indisvalid)
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
            when lock_not_available then raise;
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

  -- The indexes that ENABLE made.
  for item in
    select c.oid::regclass as id
    from pg_index i
    join pg_class c on c.oid = i.indexrelid and c.relname like 'realtime\_chat\_%'
    where i.indrelid in (
        to_regclass('public.support_agents'), to_regclass('public.live_chat_sessions'), to_regclass('public.chat_messages'))
      and obj_description(c.oid, 'pg_class') like 'ENABLE\_REALTIME\_CHAT.sql: %'
    order by c.relname
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

  if to_regnamespace('realtime_chat_undo') is not null then
    drop schema realtime_chat_undo;
  end if;
  perform set_config('lock_timeout', own_lock_timeout, true);
end
$undo$;

-- What is so now.
select u.name as "what",
  case when u.is_there then 'yes' else 'no' end as "is there",
  case
    when not u.is_there then null
    when u.comment like 'ENABLE\_REALTIME\_CHAT.sql: %' then coalesce(u.note, 'not undone: see the error above')
    else 'ENABLE did not make it, or made it before it said so in the comment'
  end as "note"
from (
  select 1 as place, format('table public.%s', t.name) as name, to_regclass('public.' || t.name) is not null as is_there,
    obj_description(to_regclass('public.' || t.name), 'pg_class') as comment, null as note
  from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) as t (name)
  union all
  select 2, format('function public.%s()', f.name), to_regprocedure(format('public.%s()', f.name)) is not null,
    obj_description(to_regprocedure(format('public.%s()', f.name)), 'pg_proc'), null
  from unnest(array['is_support_agent', 'realtime_chat_session_updated', 'realtime_chat_message_added']) as f (name)
  union all
  select 3, 'publication supabase_realtime', p.oid is not null, obj_description(p.oid, 'pg_publication'),
    (
      select format('tables are in it: %s; once they are out, run this file again',
        string_agg(format('%I.%I', t.schemaname, t.tablename), ', ' order by t.schemaname, t.tablename))
      from pg_publication_tables t
      where t.pubname = p.pubname
      having count(*) > 0
    )
  from (values ('supabase_realtime')) as n (name)
  left join pg_publication p on p.pubname = n.name
  union all
  select 4, 'schema realtime_chat_undo', to_regnamespace('realtime_chat_undo') is not null,
    obj_description(to_regnamespace('realtime_chat_undo')::oid, 'pg_namespace'), null
) u
order by u.place, u.name;
