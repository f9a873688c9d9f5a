-- Takes back what ENABLE_REALTIME_CHAT.sql did for realtime, and keeps the tables and their rows. Paste it into psql or a web SQL
-- editor; running it again changes nothing.
--
--   * What ENABLE added to publication supabase_realtime leaves it. The publication itself stays.
--   * The replica identity is again what it was before ENABLE; not where Postgres would then refuse updates and deletes, because
--     the table has no key and another publication has it.
--   * The indexes that ENABLE made go.
--
-- What was so before comes from the record that ENABLE keeps in the comment of schema realtime_chat_undo. An ENABLE of before there
-- was a record left none: then support_agents, live_chat_sessions and chat_messages leave the publication, the indexes named
-- realtime_chat_… go, the replica identity stays, and the result says how to change it.
--
-- Tables, rows, row level security, policies, triggers and functions stay as they are. UNDO_ENABLE_REALTIME_CHAT.sql takes back
-- those that ENABLE made, too.
--
-- It is one statement and a query, so it is a transaction of its own; within yours it is part of yours, and begin; … rollback;
-- tries it.
--
-- Locks: SHARE UPDATE EXCLUSIVE on each table as it leaves the publication, then ACCESS EXCLUSIVE for the identity and the indexes,
-- for the milliseconds from there to the end of the transaction; nothing is rewritten. Each lock is waited for at most five
-- seconds. Then the whole file fails and nothing has changed: run it again.

do $disable$
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
  stays regclass[] := '{}';
  noted jsonb;
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
        stays := stays || item.id;
      end;
    end loop;
    select coalesce(jsonb_agg(to_jsonb(b)), '[]') into noted
    from jsonb_to_recordset(noted) as b (database oid, relation text, oid oid, what text, identity text, identity_index text)
    where b.what = 'identity' and to_regclass(b.relation) = any (stays);
    execute format('comment on schema realtime_chat_undo is %L', 'ENABLE_REALTIME_CHAT.sql: what was before: ' || noted::text);

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
  else
    for item in
      select r.prrelid::regclass as id
      from pg_publication_rel r
      join pg_publication p on p.oid = r.prpubid and p.pubname = 'supabase_realtime'
      where r.prrelid in (
        to_regclass('public.support_agents'), to_regclass('public.live_chat_sessions'), to_regclass('public.chat_messages'))
    loop
      execute format('alter publication supabase_realtime drop table %s', item.id);
    end loop;

    for item in
      select to_regclass('public.' || u.name) as id
      from unnest(array[
        'realtime_chat_agents_user',
        'realtime_chat_sessions_queue', 'realtime_chat_sessions_visitor', 'realtime_chat_sessions_agent',
        'realtime_chat_messages_history', 'realtime_chat_messages_unread']) as u (name)
      join pg_index i on i.indexrelid = to_regclass('public.' || u.name)
    loop
      execute format('drop index %s', item.id);
    end loop;
  end if;

  perform set_config('lock_timeout', own_lock_timeout, true);
end
$disable$;

-- What is so now.
with recursive tree (name, oid) as (
  select u.name, to_regclass('public.' || u.name)::oid
  from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) as u (name)
  union
  select t.name, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.oid
),
member as (
  select t.name, c.oid, format('%I.%I', n.nspname, c.relname) as member, c.relkind, c.relreplident as identity,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) as has_key,
    array(
      select q.pubname::text from pg_publication_tables q where q.schemaname = n.nspname and q.tablename = c.relname order by 1
    ) as publications
  from tree t
  join pg_class c on c.oid = t.oid and c.relkind in ('r', 'p')
  join pg_namespace n on n.oid = c.relnamespace
),
fact as (
  select u.name, u.place, c.oid, c.relrowsecurity, coalesce(p.puballtables, false) as is_of_all,
    (select count(*) from pg_policy y where y.polrelid = c.oid) as policies,
    array(
      select format('public.%I', x.relname)
      from pg_index i join pg_class x on x.oid = i.indexrelid
      where i.indrelid = c.oid and x.relname like 'realtime\_chat\_%'
      order by x.relname
    ) as indexes,
    (
      select string_agg(m.member, ', ' order by m.member)
      from member m
      where m.name = u.name
        and exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = m.oid)
    ) as entries,
    coalesce(p.puballtables and c.relpersistence = 'p', false)
      or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid)
      or exists (select from member m where m.name = u.name and p.pubname = any (m.publications)) as is_published
  from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) with ordinality as u (name, place)
  left join pg_class c on c.oid = to_regclass('public.' || u.name)
  left join pg_publication p on p.pubname = 'supabase_realtime'
)
select
  f.name as "table",
  case when f.is_published then 'yes' else 'no' end as "in publication",
  (
    select string_agg(
      distinct case m.identity when 'd' then 'default' when 'f' then 'full' when 'i' then 'index' when 'n' then 'nothing' end, ', ')
    from member m
    where m.name = f.name
  ) as "replica identity",
  case when f.oid is not null then
    format('%s, %s %s', case when f.relrowsecurity then 'on' else 'off' end, f.policies,
      case f.policies when 1 then 'policy' else 'policies' end)
  end as "row level security and policies",
  cardinality(f.indexes) as "indexes of ENABLE",
  case when f.is_published or f.indexes <> '{}' then 'no' else 'yes' end as "disabled",
  nullif(concat_ws('; ',
    case when f.oid is null then 'the table does not exist' end,
    case
      when f.is_published and f.is_of_all then 'supabase_realtime publishes every table of the database: that is not undone here'
      when f.entries is not null
        then format(
          'still published: run this file again; what then stays was published before ENABLE, and '
          'alter publication supabase_realtime drop table %s takes it out', f.entries)
      when f.is_published then 'supabase_realtime publishes every table of the schema: that is not undone here'
    end,
    case when f.indexes <> '{}'
      then format('indexes are there: run this file again; what then stays bears no mark of ENABLE, and drop index %s drops it',
        array_to_string(f.indexes, ', ')) end,
    (
      select string_agg(
        case
          when m.has_key
            then format('%s has full identity, and no record says that ENABLE set it: '
              'alter table %1$s replica identity default changes it', m.member)
          else format('%s has full identity and no primary key%s', m.member,
            case when m.publications = '{}' then ', and no record says that ENABLE set it'
              else format(', and publication %s has it: without the identity its updates and deletes would be refused',
                array_to_string(m.publications, ', ')) end)
        end, '; ' order by m.member)
      from member m
      where m.name = f.name and m.identity = 'f' and m.relkind = 'r' and not f.is_published
    )), '') as "note"
from fact f
order by f.place;
