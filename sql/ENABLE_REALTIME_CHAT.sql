-- Makes the chat tables ready for realtime. Paste it into psql or a web SQL editor; running it again changes nothing.
--
-- What it does, all or nothing
--   * Creates support_agents, live_chat_sessions and chat_messages in schema public where they do not exist, with row level
--     security: a visitor reads and writes only their own sessions and messages, an agent (an active row in support_agents)
--     reads all and writes as agent, nobody else anything.
--   * Adds the three to publication supabase_realtime, which it creates when absent, with their partitions and the tables that
--     inherit from them.
--   * Sets REPLICA IDENTITY FULL on all of these, so that updates and deletes carry the old row.
--   * Creates the indexes the widget and dashboard queries need, unless an index already serves.
--   * Notes what it does: what it makes says so in its comment (\d+ in psql), and what was there before is in the comment of schema
--     realtime_chat_undo, which is empty.
--
-- A table that is already there keeps its data, columns, row level security and policies. Where its columns have other names
-- (chat_id for session_id, sent_at for created_at) they are recognised from the lists below; what is not recognised is named in
-- the column "indexes" of the result.
--
-- It is one statement and a query, so it is a transaction of its own; within yours it is part of yours:
--   begin; \i ENABLE_REALTIME_CHAT.sql; rollback;      shows what it would do and leaves nothing behind.
--
-- No table loses its writes. Postgres refuses updates and deletes where a publication and the replica identity do not fit (no key,
-- a list of columns, generated columns that are not published). The file asks Postgres about each table, partition and child, and
-- leaves the identity, or the publication, as it was where they would be refused; the result says where, and why.
-- It cannot keep what is made later: a new partition or child starts with identity default. The result says what follows from that.
--
-- Locks, on tables that are already there
--   create index                 SHARE: reads go on, writes wait while the index is built. On a large table build it before,
--                                outside a transaction, and this file will find it and leave it:
--                                  create index concurrently on public.chat_messages (session_id, created_at);
--   alter publication add table  SHARE UPDATE EXCLUSIVE: reads and writes go on.
--   replica identity full        ACCESS EXCLUSIVE: reads and writes wait, for the milliseconds from there to the commit; within
--                                your transaction, until that ends.
-- Each lock is waited for at most five seconds. Then the whole file fails and nothing has changed: run it again.
--
-- On plain Postgres run SUPABASE_COMPAT.sql first. DISABLE_REALTIME_CHAT.sql takes realtime back and keeps the tables;
-- UNDO_ENABLE_REALTIME_CHAT.sql takes everything back.
-- To name the agents, as the owner of the table:
--   insert into public.support_agents (user_id, display_name) values ('<the sub of their token>', 'Ann');

do $enable$
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
  -- What was there before: an array of database, relation, oid, what ('identity' or 'not published'), identity, identity_index. The
  -- oid tells a table from another that has its name now; in a database restored from a dump every oid is another.
  noted jsonb := '[]';
begin
  perform set_config('lock_timeout', '5s', true);

  -- What must be there before anything is changed.
  declare
    missing text;
    odd record;
  begin
    if to_regprocedure('auth.uid()') is null then
      raise exception 'function auth.uid() does not exist'
        using hint = 'This is not a Supabase database. Run SUPABASE_COMPAT.sql first, then this file again.';
    end if;

    select string_agg(r.name, ', ' order by r.name) into missing
    from unnest(array['anon', 'authenticated', 'service_role']) as r (name)
    where not exists (select from pg_roles p where p.rolname = r.name);
    if missing is not null then
      raise exception 'these roles do not exist: %', missing
        using hint = 'Run SUPABASE_COMPAT.sql first, then this file again.';
    end if;

    -- Functions of this file that are made anew with their table must not take the place of somebody's own.
    select string_agg(p.oid::regprocedure::text, ', ' order by p.proname) into missing
    from pg_proc p
    where p.oid in (
        to_regprocedure('public.realtime_chat_session_updated()'), to_regprocedure('public.realtime_chat_message_added()'))
      and to_regclass('public.live_chat_sessions') is null
      and not (
        p.proowner = any (trusted)
        and coalesce(obj_description(p.oid, 'pg_proc') like 'ENABLE\_REALTIME\_CHAT.sql: %', false));
    if missing is not null then
      raise exception 'these functions are there and are not of this file: %', missing
        using hint = 'Rename or drop them, then run this file again.';
    end if;

    for odd in
      select c.relname, c.relkind
      from pg_class c
      where c.oid in (
          to_regclass('public.support_agents'), to_regclass('public.live_chat_sessions'), to_regclass('public.chat_messages'))
        and c.relkind not in ('r', 'p')
    loop
      raise exception 'public.% is not a table but a %', odd.relname,
          case odd.relkind
            when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' else 'sequence or type'
          end
        using hint = 'A publication carries tables only. Give this name to the table, then run this file again.';
    end loop;
  end;

  -- What earlier runs noted. Whoever owns the record could make UNDO_ENABLE_REALTIME_CHAT.sql change what this file did not, so it
  -- belongs to somebody who may do so anyway. What somebody has changed since is not for this file to change back.
  if to_regnamespace('realtime_chat_undo') is not null then
    if not exists (
      select from pg_namespace n
      where n.nspname = 'realtime_chat_undo' and n.nspowner = any (trusted)
        and obj_description(n.oid, 'pg_namespace') like 'ENABLE\_REALTIME\_CHAT.sql: %')
    then
      raise exception 'schema realtime_chat_undo is there and is not the record of this file'
        using hint = 'Rename it, then run this file again: alter schema realtime_chat_undo rename to another_name';
    end if;
    noted := substring(obj_description('realtime_chat_undo'::regnamespace, 'pg_namespace') from '\[.*$');
    select coalesce(jsonb_agg(to_jsonb(b)), '[]') into noted
    from jsonb_to_recordset(noted) as b (database oid, relation text, oid oid, what text, identity text, identity_index text)
    join pg_class c on c.oid = to_regclass(b.relation) and (c.oid = b.oid or here <> b.database)
    where b.what = 'identity' and c.relreplident = 'f'
      or b.what = 'not published' and exists (
        select from pg_publication_rel r
        join pg_publication p on p.oid = r.prpubid and p.pubname = 'supabase_realtime'
        where r.prrelid = c.oid);
  else
    create schema realtime_chat_undo;
  end if;

  -- The tables, where they are not there yet.
  <<tables>>
  declare
    makes_agents boolean := to_regclass('public.support_agents') is null;
    makes_sessions boolean := to_regclass('public.live_chat_sessions') is null;
    makes_messages boolean := to_regclass('public.chat_messages') is null;
    agent_key name;
    agent_key_type text;
    agent_user name;
    agent_user_type text;
    agent_active name;
    session_key name;
    session_key_type text;
    session_status name;
    session_visitor name;
    session_visitor_type text;
    own_sessions text;
    own_open_sessions text;
    asked text;
    stranger text;
  begin
    if not (makes_agents or makes_sessions or makes_messages) then
      exit tables;
    end if;

    if makes_agents then
      create table public.support_agents (
        id uuid primary key default gen_random_uuid(),
        -- The sub of the agent's token; on Supabase, auth.users.id.
        user_id uuid not null unique,
        display_name text not null check (char_length(display_name) between 1 and 200),
        email text,
        is_active boolean not null default true,
        created_at timestamptz not null default now()
      );
      comment on table public.support_agents is 'ENABLE_REALTIME_CHAT.sql: who answers';
    end if;

    -- What the agents table calls its key, its user and its switch. One without a column for the user is keyed by the user.
    select a.attname, format_type(a.atttypid, a.atttypmod) into agent_key, agent_key_type
    from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = 'public.support_agents'::regclass and i.indisprimary and i.indnkeyatts = 1;

    select a.attname, format_type(a.atttypid, null) into agent_user, agent_user_type
    from unnest(array['user_id', 'auth_user_id', 'auth_id', 'auth_uid', 'id']) with ordinality as c (name, place)
    join pg_attribute a on a.attrelid = 'public.support_agents'::regclass and a.attname = c.name and not a.attisdropped
    order by c.place
    limit 1;

    select a.attname into agent_active
    from unnest(array['is_active', 'active', 'enabled']) with ordinality as c (name, place)
    join pg_attribute a on a.attrelid = 'public.support_agents'::regclass and a.attname = c.name and not a.attisdropped
    where a.atttypid = 'boolean'::regtype
    order by c.place
    limit 1;

    if agent_key is null then
      raise exception 'public.support_agents has no primary key of one column'
        using hint = 'Give it one, then run this file again.';
    end if;
    if agent_user_type is null or agent_user_type not in ('uuid', 'text', 'character varying') then
      raise exception 'public.support_agents has no column that names the user'
        using hint = 'Add user_id, auth_user_id, auth_id or auth_uid, as uuid or text, then run this file again.';
    end if;

    -- The one question every policy asks. Security definer, so that asking it needs no grant on the table and does not run into
    -- the table's own policies. What it answers decides who reads everything, so one that is there must be this one.
    asked := format(
      'select exists (select from public.support_agents a where a.%I = auth.uid()%s%s)',
      agent_user,
      case agent_user_type when 'uuid' then '' else '::text' end,
      case when agent_active is null then '' else format(' and a.%I', agent_active) end);
    if to_regprocedure('public.is_support_agent()') is null then
      execute format(
        'create function public.is_support_agent() returns boolean '
        'language sql stable security definer set search_path = '''' as %L', asked);
      comment on function public.is_support_agent() is
        'ENABLE_REALTIME_CHAT.sql: whether the caller''s token belongs to an active support agent';
      revoke execute on function public.is_support_agent() from public, anon;
      grant execute on function public.is_support_agent() to authenticated, service_role;
    else
      select concat_ws(', ',
          case when not p.proowner = any (trusted) then format('belongs to %I', pg_get_userbyid(p.proowner)) end,
          case when p.prosrc <> asked or l.lanname <> 'sql' or not p.prosecdef or p.prorettype <> 'boolean'::regtype
            or p.proretset or p.proconfig is distinct from array['search_path=""']
            then 'is defined otherwise' end,
          case when not has_function_privilege('authenticated', p.oid, 'execute') then 'may not be called by authenticated' end)
        into stranger
      from pg_proc p
      join pg_language l on l.oid = p.prolang
      where p.oid = 'public.is_support_agent()'::regprocedure;
      if stranger <> '' then
        raise exception 'function public.is_support_agent() is there and %', stranger
          using hint = 'The policies of the tables to be made would ask it who reads everything. Give it another name '
            '(alter function public.is_support_agent() rename to another_name), then run this file again.';
      end if;
    end if;

    if makes_agents then
      alter table public.support_agents enable row level security;
      revoke all on public.support_agents from public, anon, authenticated;
      grant select on public.support_agents to authenticated;
      grant all on public.support_agents to service_role;

      create policy "agents read agents" on public.support_agents
        for select to authenticated
        using ((select public.is_support_agent()));
    end if;

    if makes_sessions then
      execute format(
        $create$
          create table public.live_chat_sessions (
            id uuid primary key default gen_random_uuid(),
            visitor_id uuid not null default auth.uid(),
            visitor_name text check (char_length(visitor_name) <= 200),
            visitor_email text check (char_length(visitor_email) <= 320),
            status text not null default 'waiting' check (status in ('waiting', 'active', 'closed')),
            assigned_agent_id %s references public.support_agents (%I) on delete set null,
            subject text check (char_length(subject) <= 500),
            rating smallint check (rating between 1 and 5),
            feedback text check (char_length(feedback) <= 5000),
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            last_message_at timestamptz not null default now(),
            closed_at timestamptz
          )
        $create$, agent_key_type, agent_key);

      comment on table public.live_chat_sessions is 'ENABLE_REALTIME_CHAT.sql: one conversation each';

      -- Timestamps are the database's: no client writes them.
      alter table public.live_chat_sessions enable row level security;
      revoke all on public.live_chat_sessions from public, anon, authenticated;
      grant select on public.live_chat_sessions to authenticated;
      grant insert (id, visitor_id, visitor_name, visitor_email, status, subject)
        on public.live_chat_sessions to authenticated;
      grant update (visitor_name, visitor_email, status, assigned_agent_id, subject, rating, feedback)
        on public.live_chat_sessions to authenticated;
      grant all on public.live_chat_sessions to service_role;

      create policy "visitors read their own sessions" on public.live_chat_sessions
        for select to authenticated
        using (visitor_id = (select auth.uid()));
      create policy "visitors open their own sessions" on public.live_chat_sessions
        for insert to authenticated
        with check (visitor_id = (select auth.uid()) and status = 'waiting');
      create policy "visitors close and rate their own sessions" on public.live_chat_sessions
        for update to authenticated
        using (visitor_id = (select auth.uid()));
      create policy "agents read every session" on public.live_chat_sessions
        for select to authenticated
        using ((select public.is_support_agent()));
      create policy "agents update every session" on public.live_chat_sessions
        for update to authenticated
        using ((select public.is_support_agent()));

      -- Visitors and agents share the role authenticated, so column grants cannot tell them apart; and a policy does not see the
      -- old row. A caller without a user (the table's owner, a service token) is not held back.
      create or replace function public.realtime_chat_session_updated() returns trigger
      language plpgsql set search_path = ''
      as $function$
      begin
        if (new.rating, new.feedback) is distinct from (old.rating, old.feedback) and auth.uid() <> old.visitor_id then
          raise exception 'only its visitor rates a session' using errcode = 'insufficient_privilege';
        end if;
        if auth.uid() is not null
          and (new.assigned_agent_id is distinct from old.assigned_agent_id
            or (new.status <> old.status and new.status <> 'closed'))
          and not public.is_support_agent()
        then
          raise exception 'a visitor may close a session; only an agent assigns or opens it'
            using errcode = 'insufficient_privilege';
        end if;
        new.updated_at := now();
        new.closed_at := case when new.status = 'closed' then coalesce(old.closed_at, now()) end;
        return new;
      end
      $function$;
      comment on function public.realtime_chat_session_updated() is
        'ENABLE_REALTIME_CHAT.sql: what visitors may not change of a session, and when it was changed';
      create trigger realtime_chat_session_updated before update on public.live_chat_sessions
        for each row execute function public.realtime_chat_session_updated();
    end if;

    if makes_messages then
      select a.attname, format_type(a.atttypid, a.atttypmod) into session_key, session_key_type
      from pg_index i
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
      where i.indrelid = 'public.live_chat_sessions'::regclass and i.indisprimary and i.indnkeyatts = 1;

      select a.attname, format_type(a.atttypid, null) into session_visitor, session_visitor_type
      from unnest(array['visitor_id', 'visitor_user_id', 'user_id', 'customer_id', 'player_id', 'created_by'])
        with ordinality as c (name, place)
      join pg_attribute a
        on a.attrelid = 'public.live_chat_sessions'::regclass and a.attname = c.name and not a.attisdropped
      order by c.place
      limit 1;

      select a.attname into session_status
      from unnest(array['status', 'state']) with ordinality as c (name, place)
      join pg_attribute a
        on a.attrelid = 'public.live_chat_sessions'::regclass and a.attname = c.name and not a.attisdropped
      order by c.place
      limit 1;

      if session_key is null then
        raise exception 'public.live_chat_sessions has no primary key of one column'
          using hint = 'Give it one, then run this file again.';
      end if;
      if session_visitor_type is null or session_visitor_type not in ('uuid', 'text', 'character varying') then
        raise exception 'public.live_chat_sessions has no column that names the visitor'
          using hint = 'Add visitor_id as uuid or text, or create public.chat_messages yourself, then run this file again.';
      end if;

      execute format(
        $create$
          create table public.chat_messages (
            id uuid primary key default gen_random_uuid(),
            session_id %s not null references public.live_chat_sessions (%I) on delete cascade,
            sender_type text not null check (sender_type in ('visitor', 'agent', 'system')),
            sender_id uuid default auth.uid(),
            sender_name text check (char_length(sender_name) <= 200),
            body text not null check (char_length(body) between 1 and 10000),
            -- Chosen by the client before it sends: sending again after a lost answer is refused instead of stored twice.
            client_id uuid,
            read_at timestamptz,
            created_at timestamptz not null default now(),
            unique (session_id, client_id)
          )
        $create$, session_key_type, session_key);

      comment on table public.chat_messages is 'ENABLE_REALTIME_CHAT.sql: what was said';

      -- What was said stays said: only the receipt may change.
      alter table public.chat_messages enable row level security;
      revoke all on public.chat_messages from public, anon, authenticated;
      grant select on public.chat_messages to authenticated;
      grant insert (id, session_id, sender_type, sender_id, sender_name, body, client_id)
        on public.chat_messages to authenticated;
      grant update (read_at) on public.chat_messages to authenticated;
      grant all on public.chat_messages to service_role;

      -- Evaluated once per statement, from the index on the visitor, not once per message.
      own_sessions := format(
        'select s.%I from public.live_chat_sessions s where s.%I = (select auth.uid())%s',
        session_key, session_visitor, case session_visitor_type when 'uuid' then '' else '::text' end);
      own_open_sessions := own_sessions || coalesce(format(' and s.%I::text <> ''closed''', session_status), '');

      execute format(
        $create$
          create policy "visitors read their own messages" on public.chat_messages
            for select to authenticated
            using (session_id in (%s))
        $create$, own_sessions);
      execute format(
        $create$
          create policy "visitors write in their own open sessions" on public.chat_messages
            for insert to authenticated
            with check (sender_type = 'visitor' and sender_id = (select auth.uid()) and session_id in (%s))
        $create$, own_open_sessions);
      execute format(
        $create$
          create policy "visitors mark what they read" on public.chat_messages
            for update to authenticated
            using (sender_type <> 'visitor' and session_id in (%s))
        $create$, own_sessions);
      create policy "agents read every message" on public.chat_messages
        for select to authenticated
        using ((select public.is_support_agent()));
      create policy "agents write as agent" on public.chat_messages
        for insert to authenticated
        with check (sender_type = 'agent' and sender_id = (select auth.uid()) and (select public.is_support_agent()));
      create policy "agents mark what they read" on public.chat_messages
        for update to authenticated
        using (sender_type = 'visitor' and (select public.is_support_agent()));

      -- The session moves with its messages, whichever client wrote them: the newest message orders the dashboard, and the first
      -- agent to answer takes the session. Security definer, because a visitor may not write these columns. A sessions table that
      -- was there before keeps its own ways.
      if makes_sessions then
        execute format(
          $create$
            create or replace function public.realtime_chat_message_added() returns trigger
            language plpgsql security definer set search_path = ''
            as $function$
            begin
              update public.live_chat_sessions s
              set last_message_at = greatest(s.last_message_at, new.created_at),
                  status = case when new.sender_type = 'agent' and s.status = 'waiting' then 'active' else s.status end,
                  assigned_agent_id = case
                    when new.sender_type = 'agent' and s.assigned_agent_id is null
                      then (select a.%I from public.support_agents a where a.%I = new.sender_id%s)
                    else s.assigned_agent_id
                  end
              where s.id = new.session_id;
              return null;
            end
            $function$
          $create$,
          agent_key, agent_user, case agent_user_type when 'uuid' then '' else '::text' end);
        comment on function public.realtime_chat_message_added() is
          'ENABLE_REALTIME_CHAT.sql: a message moves its session';
        create trigger realtime_chat_message_added after insert on public.chat_messages
          for each row execute function public.realtime_chat_message_added();
      end if;
    end if;
  end;

  -- The indexes. The query from meaning to judged stands twice in this file: here it finds what to create, and at the end it says
  -- what is so, also where this statement failed. No other way fits a file that is pasted: a DO statement returns no rows. A
  -- function of schema pg_temp takes the right TEMPORARY on the database; any other function would have to be dropped behind the
  -- query, of which SQL editors then show no rows, and is not there where this statement failed. A setting or a prepared statement
  -- is gone where a pooler gives the query another session.
  declare
    lacking record;
    taken regclass;
  begin
    for lacking in
      with meaning (relation, meaning, candidates) as (values
        ('support_agents', 'user_id', array['user_id', 'auth_user_id', 'auth_id', 'auth_uid', 'id']),
        ('live_chat_sessions', 'visitor_id',
          array['visitor_id', 'visitor_user_id', 'user_id', 'customer_id', 'player_id', 'created_by']),
        ('live_chat_sessions', 'status', array['status', 'state']),
        ('live_chat_sessions', 'assigned_agent_id',
          array['assigned_agent_id', 'agent_id', 'support_agent_id', 'assigned_to', 'assigned_agent']),
        ('live_chat_sessions', 'created_at', array['created_at', 'started_at', 'inserted_at', 'timestamp']),
        ('live_chat_sessions', 'last_message_at', array['last_message_at', 'last_activity_at', 'last_activity', 'updated_at']),
        ('chat_messages', 'session_id',
          array['session_id', 'chat_session_id', 'live_chat_session_id', 'chat_id', 'conversation_id', 'request_id']),
        ('chat_messages', 'created_at', array['created_at', 'sent_at', 'inserted_at', 'timestamp']),
        ('chat_messages', 'read_at', array['read_at', 'seen_at', 'is_read', 'read'])
      ),
      found as (
        select m.relation, m.meaning, c.name, c.is_flag
        from meaning m
        left join lateral (
          select a.attname::text as name, a.atttypid = 'boolean'::regtype as is_flag
          from unnest(m.candidates) with ordinality as u (name, place)
          join pg_attribute a on a.attrelid = to_regclass('public.' || m.relation) and a.attname = u.name and not a.attisdropped
          where u.name <> 'id' or a.atttypid in ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype)
          order by u.place
          limit 1
        ) c on true
      ),
      wanted (relation, index_name, meanings, unread) as (values
        ('support_agents', 'realtime_chat_agents_user', array['user_id'], null),
        ('live_chat_sessions', 'realtime_chat_sessions_queue', array['status', 'last_message_at'], null),
        ('live_chat_sessions', 'realtime_chat_sessions_visitor', array['visitor_id', 'created_at'], null),
        ('live_chat_sessions', 'realtime_chat_sessions_agent', array['assigned_agent_id', 'status'], null),
        ('chat_messages', 'realtime_chat_messages_history', array['session_id', 'created_at'], null),
        ('chat_messages', 'realtime_chat_messages_unread', array['session_id'], 'read_at')
      ),
      -- Each index with the columns of this database; without them when a meaning has no column.
      resolved as (
        select w.relation, w.index_name, to_regclass('public.' || w.relation) as oid,
          array(
            select f.name
            from unnest(w.meanings) with ordinality as u (meaning, place)
            join found f on f.relation = w.relation and f.meaning = u.meaning
            order by u.place
          ) as columns,
          case
            when f.is_flag then format('(NOT %I)', f.name)
            when f.name is not null then format('(%I IS NULL)', f.name)
          end as unread,
          array(
            select f.meaning
            from found f
            where f.relation = w.relation and f.name is null and (f.meaning = any (w.meanings) or f.meaning = w.unread)
            order by f.meaning
          ) as without
        from wanted w
        left join found f on f.relation = w.relation and f.meaning = w.unread
      ),
      judged as (
        select r.*, exists (
          select
          from pg_index i
          join pg_class c on c.oid = i.indexrelid
          join pg_am m on m.oid = c.relam and m.amname = 'btree'
          where i.indrelid = r.oid
            and i.indisvalid
            and coalesce(pg_get_expr(i.indpred, i.indrelid) = r.unread, i.indpred is null and r.unread is null)
            and r.columns = array(
              select a.attname::text
              from unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
              join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
              where k.place <= cardinality(r.columns)
              order by k.place
            )
        ) as is_served
        from resolved r
        where r.oid is not null
      )
      select j.relation, j.index_name, j.unread,
        (
          select string_agg(quote_ident(u.name), ', ' order by u.place)
          from unnest(j.columns) with ordinality as u (name, place)
        ) as columns
      from judged j
      where not j.is_served and j.without = '{}'
    loop
      -- An index that has the name and does not serve: this file's own over columns of before, or one whose building broke off, is
      -- replaced. Another's stays, and the result says so.
      taken := to_regclass('public.' || lacking.index_name);
      if taken is not null then
        continue when not exists (
          select from pg_index i
          where i.indexrelid = taken
            and (not i.indisvalid
              or obj_description(taken, 'pg_class') like 'ENABLE\_REALTIME\_CHAT.sql: %'));
        execute format('drop index public.%I', lacking.index_name);
      end if;
      execute format(
        'create index %I on public.%I (%s)%s', lacking.index_name, lacking.relation, lacking.columns, ' where ' || lacking.unread);
      execute format('comment on index public.%I is %L', lacking.index_name, 'ENABLE_REALTIME_CHAT.sql: what the chat looks for');
    end loop;
  end;

  -- The publication. Postgres 18 leaves generated columns out unless asked, and then refuses to update a table of full identity
  -- that has any; so they are asked for.
  if not exists (select from pg_publication p where p.pubname = 'supabase_realtime') then
    if current_setting('server_version_num')::int >= 180000 then
      execute 'create publication supabase_realtime with (publish_generated_columns = stored)';
    else
      create publication supabase_realtime;
    end if;
    comment on publication supabase_realtime is 'ENABLE_REALTIME_CHAT.sql: what clients may subscribe to';
  end if;

  -- The tables into the publication, and the replica identity. Last, because from the identity on readers wait too.
  declare
    root regclass;
    member record;
    gets_published regclass[];
    gets_full regclass[];
    refused regclass[];
    refused_before regclass[];
    noted_before jsonb;
  begin
    foreach root in array array['public.support_agents', 'public.live_chat_sessions', 'public.chat_messages']::regclass[] loop
      -- First as it is, to learn what is refused already; then with everything; then without the identity where that was refused;
      -- then without the publication where that was. What is not kept is rolled back.
      refused_before := null;
      gets_published := '{}';
      gets_full := '{}';
      loop
        noted_before := noted;
        begin
          refused := '{}';
          for member in
            with recursive tree (oid) as (
              select root::oid
              union
              select i.inhrelid from tree t join pg_inherits i on i.inhparent = t.oid
            )
            select c.oid::regclass as id, format('%I.%I', n.nspname, c.relname) as name, c.relkind,
              c.relispartition as is_partition, c.relreplident as identity,
              (
                select x.relname from pg_index i join pg_class x on x.oid = i.indexrelid
                where i.indrelid = c.oid and i.indisreplident
              ) as identity_index,
              p.puballtables
                or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid)
                or exists (
                  select from pg_publication_tables t
                  where t.pubname = p.pubname and t.schemaname = n.nspname and t.tablename = c.relname) as is_published,
              -- A column that an UPDATE may name.
              (
                select format(case when a.attgenerated = '' and a.attidentity <> 'a' then '%1$I = %1$I' else '%1$I = default' end,
                  a.attname)
                from pg_attribute a
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                order by a.attgenerated <> '' or a.attidentity = 'a', a.attnum
                limit 1
              ) as assignment
            from tree t
            join pg_class c on c.oid = t.oid
            join pg_namespace n on n.oid = c.relnamespace
            join pg_publication p on p.pubname = 'supabase_realtime'
            where c.relkind in ('r', 'p')
          loop
            -- Partitions are published with their table.
            if member.id = any (gets_published) and not member.is_published and not member.is_partition then
              execute format('alter publication supabase_realtime add table only %s', member.id);
              noted := noted || jsonb_build_object(
                'database', here, 'relation', member.name, 'oid', member.id::oid, 'what', 'not published',
                'identity', null, 'identity_index', null);
            end if;
            if member.id = any (gets_full) and member.identity <> 'f' then
              execute format('alter table only %s replica identity full', member.id);
              noted := noted || jsonb_build_object(
                'database', here, 'relation', member.name, 'oid', member.id::oid, 'what', 'identity',
                'identity', member.identity, 'identity_index', member.identity_index);
            end if;

            -- Planning an UPDATE and a DELETE is enough for Postgres to refuse them; nothing is changed and no trigger runs.
            if member.relkind = 'r' then
              begin
                execute format('explain update only %s set %s where false', member.id, member.assignment);
                execute format('explain delete from only %s where false', member.id);
              exception
                when invalid_column_reference or object_not_in_prerequisite_state then
                  refused := refused || member.id;
                when lock_not_available then
                  raise;
                when others then
                  null; -- Another reason than publication and identity, which this file does not touch.
              end;
            end if;
          end loop;

          if refused_before is null then
            refused_before := refused;
          elsif not refused <@ refused_before then
            raise exception using errcode = 'RL001', message = 'updates would be refused';
          else
            exit;
          end if;
          -- An unlogged table is not published; where it has no key, it is made fit for the moment when it becomes a logged one.
          with recursive tree (oid) as (
            select root::oid
            union
            select i.inhrelid from tree t join pg_inherits i on i.inhparent = t.oid
          )
          select
              coalesce(array_agg(t.oid::regclass) filter (
                where c.relpersistence = 'p' or not exists (
                  select from pg_index i where i.indrelid = c.oid and i.indisprimary)), '{}'),
              coalesce(array_agg(t.oid::regclass) filter (where c.relpersistence = 'p'), '{}')
            into gets_full, gets_published
          from tree t join pg_class c on c.oid = t.oid
          where c.relkind in ('r', 'p');
        exception when sqlstate 'RL001' then
          noted := noted_before;
          if refused && gets_full then
            gets_full := array(select m.id from unnest(gets_full) as m (id) where m.id <> all (refused));
          elsif refused && array(
            select m.id from unnest(gets_published) as m (id) join pg_class c on c.oid = m.id and not c.relispartition)
          then
            gets_published := array(select m.id from unnest(gets_published) as m (id) where m.id <> all (refused));
          else
            -- A partition that cannot be published takes its table along.
            gets_published := '{}';
            gets_full := '{}';
          end if;
        end;
      end loop;
    end loop;
  end;

  execute format('comment on schema realtime_chat_undo is %L', 'ENABLE_REALTIME_CHAT.sql: what was before: ' || noted::text);
  perform set_config('lock_timeout', own_lock_timeout, true);
end
$enable$;

-- What is so now. A table is ready when its committed changes reach everyone who may read them, and nobody else.
with recursive meaning (relation, meaning, candidates) as (values
  ('support_agents', 'user_id', array['user_id', 'auth_user_id', 'auth_id', 'auth_uid', 'id']),
  ('live_chat_sessions', 'visitor_id',
    array['visitor_id', 'visitor_user_id', 'user_id', 'customer_id', 'player_id', 'created_by']),
  ('live_chat_sessions', 'status', array['status', 'state']),
  ('live_chat_sessions', 'assigned_agent_id',
    array['assigned_agent_id', 'agent_id', 'support_agent_id', 'assigned_to', 'assigned_agent']),
  ('live_chat_sessions', 'created_at', array['created_at', 'started_at', 'inserted_at', 'timestamp']),
  ('live_chat_sessions', 'last_message_at', array['last_message_at', 'last_activity_at', 'last_activity', 'updated_at']),
  ('chat_messages', 'session_id',
    array['session_id', 'chat_session_id', 'live_chat_session_id', 'chat_id', 'conversation_id', 'request_id']),
  ('chat_messages', 'created_at', array['created_at', 'sent_at', 'inserted_at', 'timestamp']),
  ('chat_messages', 'read_at', array['read_at', 'seen_at', 'is_read', 'read'])
),
found as (
  select m.relation, m.meaning, c.name, c.is_flag
  from meaning m
  left join lateral (
    select a.attname::text as name, a.atttypid = 'boolean'::regtype as is_flag
    from unnest(m.candidates) with ordinality as u (name, place)
    join pg_attribute a on a.attrelid = to_regclass('public.' || m.relation) and a.attname = u.name and not a.attisdropped
    where u.name <> 'id' or a.atttypid in ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype)
    order by u.place
    limit 1
  ) c on true
),
wanted (relation, index_name, meanings, unread) as (values
  ('support_agents', 'realtime_chat_agents_user', array['user_id'], null),
  ('live_chat_sessions', 'realtime_chat_sessions_queue', array['status', 'last_message_at'], null),
  ('live_chat_sessions', 'realtime_chat_sessions_visitor', array['visitor_id', 'created_at'], null),
  ('live_chat_sessions', 'realtime_chat_sessions_agent', array['assigned_agent_id', 'status'], null),
  ('chat_messages', 'realtime_chat_messages_history', array['session_id', 'created_at'], null),
  ('chat_messages', 'realtime_chat_messages_unread', array['session_id'], 'read_at')
),
-- Each index with the columns of this database; without them when a meaning has no column.
resolved as (
  select w.relation, w.index_name, to_regclass('public.' || w.relation) as oid,
    array(
      select f.name
      from unnest(w.meanings) with ordinality as u (meaning, place)
      join found f on f.relation = w.relation and f.meaning = u.meaning
      order by u.place
    ) as columns,
    case
      when f.is_flag then format('(NOT %I)', f.name)
      when f.name is not null then format('(%I IS NULL)', f.name)
    end as unread,
    array(
      select f.meaning
      from found f
      where f.relation = w.relation and f.name is null and (f.meaning = any (w.meanings) or f.meaning = w.unread)
      order by f.meaning
    ) as without
  from wanted w
  left join found f on f.relation = w.relation and f.meaning = w.unread
),
judged as (
  select r.*, exists (
    select
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    join pg_am m on m.oid = c.relam and m.amname = 'btree'
    where i.indrelid = r.oid
      and i.indisvalid
      and coalesce(pg_get_expr(i.indpred, i.indrelid) = r.unread, i.indpred is null and r.unread is null)
      and r.columns = array(
        select a.attname::text
        from unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where k.place <= cardinality(r.columns)
        order by k.place
      )
  ) as is_served
  from resolved r
  where r.oid is not null
),
index_summary as (
  select j.relation,
    concat_ws(', ',
      format('%s of %s', count(*) filter (where j.is_served), count(*)),
      (
        select string_agg(format('%s is %s', f.meaning, quote_ident(f.name)), ', ' order by f.meaning)
        from found f
        where f.relation = j.relation and f.name <> f.meaning
      ),
      (
        select string_agg('no column for ' || f.meaning, ', ' order by f.meaning)
        from found f
        where f.relation = j.relation and f.name is null
      )) as said,
    string_agg(j.index_name, ', ' order by j.index_name)
      filter (where not j.is_served and j.without = '{}' and not j.is_taken) as lacking,
    min(j.index_name) filter (where not j.is_served and j.without = '{}' and j.is_taken) as taken
  from (select d.*, to_regclass('public.' || d.index_name) is not null as is_taken from judged d) j
  group by j.relation
),
-- The tables with their partitions and with what inherits from them.
tree (relation, oid) as (
  select u.name, to_regclass('public.' || u.name)::oid
  from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) as u (name)
  union
  select t.relation, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.oid
),
member as (
  select t.relation, c.oid, format('%I.%I', n.nspname, c.relname) as name, c.relkind, c.relispartition,
    c.relpersistence = 'u' as is_unlogged, c.relreplident as identity, c.oid = to_regclass('public.' || t.relation) as is_root,
    -- Itself and the tables it is a partition of, from the nearest on.
    array(
      select c.oid
      union all
      select a.relid::oid from pg_partition_ancestors(c.oid) a where a.relid <> c.oid) as chain,
    -- The columns of the key that default identity or an index stands for.
    array(
      select a.attname
      from pg_index i
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey::int2[])
      where i.indrelid = c.oid and i.indisvalid and i.indimmediate
        and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end
    ) as key,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) as has_primary_key,
    exists (
      select from pg_attribute a where a.attrelid = c.oid and a.attname = 'id' and not a.attisdropped) as has_id,
    array(
      select quote_ident(a.attname) from pg_attribute a
      where a.attrelid = c.oid and a.attgenerated = 'v' and not a.attisdropped order by a.attnum) as virtual_columns,
    exists (
      select from pg_attribute a where a.attrelid = c.oid and a.attgenerated = 's' and not a.attisdropped) as has_stored
  from tree t
  join pg_class c on c.oid = t.oid and c.relkind in ('r', 'p')
  join pg_namespace n on n.oid = c.relnamespace
),
-- Each publication that carries a member, and supabase_realtime, which should; with the columns and the rows it is limited to.
carried as (
  select m.oid, p.pubname, p.pubupdate or p.pubdelete as is_asked, k.is_carried,
    to_jsonb(p) ->> 'pubgencols' = 'n' as leaves_out_generated, l.entry_columns, l.filter_columns
  from member m
  cross join pg_publication p
  cross join lateral (
    select exists (
      select
      from pg_publication_tables t
      join pg_class k on k.oid = any (m.chain) and k.relname = t.tablename
      join pg_namespace s on s.oid = k.relnamespace and s.nspname = t.schemaname
      where t.pubname = p.pubname) as is_carried
  ) k
  left join lateral (
    select
      case when to_jsonb(r) ->> 'prattrs' is not null then array(
        select a.attname
        from jsonb_array_elements_text(to_jsonb(r) -> 'prattrs') as l (number)
        join pg_attribute a on a.attrelid = r.prrelid and a.attnum = l.number::int2) end as entry_columns,
      array(
        select a.attname
        from regexp_matches(to_jsonb(r) ->> 'prqual', ':varattno (\d+)', 'g') as v (numbers)
        join pg_attribute a on a.attrelid = r.prrelid and a.attnum = v.numbers[1]::int2
      ) as filter_columns
    from pg_publication_rel r
    where r.prpubid = p.oid and r.prrelid = any (m.chain) and (p.pubviaroot or r.prrelid = m.oid)
    order by array_position(m.chain, r.prrelid) desc
    limit 1
  ) l on true
  where m.relkind = 'r' and not m.is_unlogged and (k.is_carried or p.pubname = 'supabase_realtime')
),
-- Why Postgres refuses updates and deletes of a member: as it is, and if its identity were full.
refusal as (
  select m.relation, m.oid, m.name, m.identity, m.key = '{}' as lacks_key, c.is_carried,
    case
      when not c.is_carried then null
      when m.identity = 'f' then f.why
      when m.key = '{}' then format('it has no key and publication %I carries its updates or deletes', c.pubname)
      when not coalesce(c.filter_columns, '{}') <@ m.key
        then format('the row filter of publication %I reads columns that are not of its key', c.pubname)
      when not m.key <@ coalesce(c.entry_columns, m.key)
        then format('the list of columns of publication %I leaves out columns of its key', c.pubname)
    end as why_now,
    f.why as why_full, f.mend
  from member m
  join carried c on c.oid = m.oid and c.is_asked
  left join lateral (
    select
      case
        when m.virtual_columns <> '{}'
          then format('it has a virtual generated column: %s', array_to_string(m.virtual_columns, ', '))
        when c.entry_columns is not null then format('publication %I lists columns of it', c.pubname)
        when m.has_stored and c.leaves_out_generated then format('publication %I leaves out its generated columns', c.pubname)
      end as why,
      case
        when m.virtual_columns <> '{}' then 'Postgres publishes no such column: drop it, or make it a stored one'
        when c.entry_columns is not null then format('give publication %I the table without a list', c.pubname)
        when m.has_stored and c.leaves_out_generated
          then format('alter publication %I set (publish_generated_columns = stored)', c.pubname)
      end as mend
  ) f on true
),
-- What this file makes of public.is_support_agent().
asked (body) as (
  select format(
    'select exists (select from public.support_agents a where a.%I = auth.uid()%s%s)',
    u.attname, case when u.atttypid = 'uuid'::regtype then '' else '::text' end,
    (
      select format(' and a.%I', a.attname)
      from unnest(array['is_active', 'active', 'enabled']) with ordinality as n (name, place)
      join pg_attribute a on a.attrelid = u.attrelid and a.attname = n.name and not a.attisdropped
      where a.atttypid = 'boolean'::regtype
      order by n.place
      limit 1
    ))
  from unnest(array['user_id', 'auth_user_id', 'auth_id', 'auth_uid', 'id']) with ordinality as n (name, place)
  join pg_attribute u
    on u.attrelid = to_regclass('public.support_agents') and u.attname = n.name and not u.attisdropped
  order by n.place
  limit 1
),
fact as (
  select u.name, u.place, c.oid, c.relkind, c.relrowsecurity,
    coalesce(p.puballtables and c.relpersistence = 'p', false)
      or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid)
      or exists (
        select from pg_publication_tables t
        where t.pubname = p.pubname and t.schemaname = 'public' and t.tablename = u.name)
      or exists (select from carried a join member m on m.oid = a.oid
        where m.relation = u.name and m.relispartition and a.pubname = p.pubname and a.is_carried) as is_published,
    concat_ws(', ',
      case when not p.pubinsert then 'insert' end,
      case when not p.pubupdate then 'update' end,
      case when not p.pubdelete then 'delete' end) as leaves_out,
    exists (
      select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid and to_jsonb(r) ->> 'prqual' is not null
    ) as is_filtered,
    (select count(*) from pg_policy y where y.polrelid = c.oid) as policies,
    exists (
      select from pg_policy y
      where y.polrelid = c.oid and y.polpermissive and y.polcmd in ('r', '*')
        and exists (select from unnest(y.polroles) as g (oid) where g.oid = 0 or pg_has_role(a.oid, g.oid, 'usage'))
    ) as has_reading_policy,
    has_any_column_privilege(a.oid, c.oid, 'select') as may_select,
    (
      select string_agg(r.rolname, ', ' order by r.rolname)
      from pg_roles r
      where r.rolname in ('authenticated', 'service_role')
        and not has_schema_privilege(r.oid, to_regnamespace('public')::oid, 'usage')
    ) as kept_out,
    -- Who could let everybody read everything, and may not alter the table.
    (
      select format('%I', pg_get_userbyid(q.proowner))
      from pg_proc q
      join pg_roles o on o.oid = q.proowner
      where q.oid = to_regprocedure('public.is_support_agent()') and not o.rolsuper
        and q.proowner <> c.relowner
        and exists (
          select from pg_depend d join pg_policy y on y.oid = d.objid
          where d.classid = 'pg_policy'::regclass and d.refobjid = q.oid and y.polrelid = c.oid)
    ) as asks_stranger,
    exists (
      select from pg_proc q
      where q.oid = to_regprocedure('public.is_support_agent()') and q.prosrc <> (select s.body from asked s)
        and exists (
          select from pg_depend d join pg_policy y on y.oid = d.objid
          where d.classid = 'pg_policy'::regclass and d.refobjid = q.oid and y.polrelid = c.oid)
    ) as asks_otherwise
  from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) with ordinality as u (name, place)
  left join pg_class c on c.oid = to_regclass('public.' || u.name) and c.relkind in ('r', 'p')
  left join pg_publication p on p.pubname = 'supabase_realtime'
  left join pg_roles a on a.rolname = 'authenticated'
),
-- What is to be said of members, in words.
said as (
  select m.relation, 1 as place, format(
      '%s is unlogged, and Postgres publishes no unlogged table: '
      'alter table %1$s set logged, which rewrites it; then run this file again', m.name) as why
  from member m
  where m.is_unlogged
  union all
  select r.relation, 2, format('updates and deletes of %s fail, because %s%s', r.name, r.why_now,
    coalesce(': ' || case when r.identity = 'f' then r.mend end, ''))
  from refusal r
  where r.why_now is not null
  union all
  select m.relation, 3,
    case
      when exists (select from refusal r where r.oid = m.oid and r.lacks_key and r.why_full is not null)
        then format('%s is not published, because Postgres would then refuse its updates and deletes: it has no key', m.name)
      else format('%s is not published: run this file again', m.name)
    end
  from member m
  left join fact f on f.name = m.relation
  where not m.is_unlogged
    and case
      when m.is_root then not f.is_published
      else m.relkind = 'r' and not exists (
        select from carried c where c.oid = m.oid and c.pubname = 'supabase_realtime' and c.is_carried)
    end
  union all
  select m.relation, 4, format(
      'replica identity of %s is not full, %s', m.name, coalesce(
        (
          select format('because Postgres would then refuse its updates and deletes: %s (%s, then run this file again)',
            string_agg(distinct r.why_full, '; '), string_agg(distinct r.mend, '; '))
          from refusal r
          where r.oid = m.oid and r.why_full is not null
          having count(*) > 0
        ),
        'so its changes do not carry the old row: run this file again'))
  from member m
  where m.identity <> 'f' and m.relkind = 'r' and not m.is_unlogged
  union all
  select m.relation, 5, format('%s has no primary key, so clients cannot tell its rows apart: %s', m.name,
    case when m.relkind = 'r' and m.has_id and not m.relispartition
      then format('alter table %s add primary key (id), which waits for writes and builds an index', m.name)
      else 'give it one' end)
  from member m
  where not m.has_primary_key and not m.relispartition
  union all
  select m.relation, 6, format(
      'a partition of %s that is made from now on refuses updates and deletes until this file is run again', m.name)
  from member m
  where m.relkind = 'p' and not m.has_primary_key and m.is_root
),
said_of as (
  select s.relation, array_agg(s.why order by s.place, s.why) as reasons
  from (select distinct relation, place, why from said) s
  group by s.relation
),
verdict as (
  select f.*, i.said as indexes, array_remove(array[
    case when f.oid is null then 'the table does not exist: see the error above' end,
    case when f.is_published and f.leaves_out <> ''
      then format(
        'the publication leaves out %s: '
        'alter publication supabase_realtime set (publish = ''insert, update, delete, truncate'')', f.leaves_out) end]
    || s.reasons || array[
    case when f.kept_out is not null
      then format('%s may not use schema public: grant usage on schema public to %1$s', f.kept_out) end,
    case when f.asks_stranger is not null
      then format(
        'its policies ask public.is_support_agent(), and %s, who owns that, could let everybody read everything: '
        'read its definition, then alter function public.is_support_agent() owner to %I',
        f.asks_stranger, (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = f.oid)) end,
    case when not f.relrowsecurity
      then format(
        'row level security is off, so whoever may select reads every row: '
        'create policies, then alter table public.%I enable row level security', f.name) end,
    case when f.relrowsecurity and not f.has_reading_policy
      then 'row level security is on and no policy lets authenticated read anything: create one' end,
    case when not f.may_select
      then format('authenticated may not select: %sgrant select on public.%I to authenticated',
        case when not f.relrowsecurity then 'once row level security is on, and not before, ' else '' end, f.name) end,
    case when i.lacking is not null then format('no index %s: run this file again', i.lacking) end,
    case when i.taken is not null
      then format('index %s is there over other columns: alter index public.%1$s rename to %1$s_other, then run this file again',
        i.taken) end,
    case when current_setting('wal_level') <> 'logical'
      then format(
        'wal_level is %s: alter system set wal_level = logical, then restart Postgres', current_setting('wal_level')) end
  ], null) as reasons,
  nullif(concat_ws('; ', case
    when exists (select from member m where m.relation = f.name and m.relkind = 'p' and m.has_primary_key)
      then 'a partition made from now on has identity default, so its changes carry only the key of the old row; '
        'after making one, run this file again'
    when exists (select from member m where m.relation = f.name and not m.is_root and not m.relispartition)
      then 'a table that is made from now on to inherit from it is not published; after making one, run this file again'
  end,
  case when f.asks_otherwise
    then 'its policies ask public.is_support_agent(), which is not defined as this file does it: who may read is what that says' end
  ), '') as note
  from fact f
  left join index_summary i on i.relation = f.name
  left join said_of s on s.relation = f.name
)
select
  v.name as "table",
  case when v.oid is null or not v.is_published then 'no' when v.is_filtered then 'yes, with a row filter' else 'yes' end
    as "in publication",
  (
    select string_agg(
      distinct case m.identity when 'd' then 'default' when 'f' then 'full' when 'i' then 'index' when 'n' then 'nothing' end, ', ')
    from member m
    where m.relation = v.name
  ) as "replica identity",
  case when v.oid is not null then
    format('%s, %s %s', case when v.relrowsecurity then 'on' else 'off' end, v.policies,
      case v.policies when 1 then 'policy' else 'policies' end)
  end as "row level security and policies",
  v.indexes as "indexes",
  case when v.reasons = '{}' then 'yes' else 'no' end as "ready",
  nullif(array_to_string(v.reasons, '; '), '') as "why not",
  v.note as "note"
from verdict v
order by v.place;
