-- Makes the chat tables ready for realtime. Paste it once into psql or a web SQL editor; running it again changes nothing.
--
-- What it does, in one transaction
--   * Creates support_agents, live_chat_sessions and chat_messages in schema public where they do not exist, with row level
--     security: a visitor reads and writes only their own sessions and messages, an agent (an active row in support_agents)
--     reads all and writes as agent, nobody else anything.
--   * Adds the three to publication supabase_realtime, which it creates when absent.
--   * Sets REPLICA IDENTITY FULL, so that updates and deletes carry the old row.
--   * Creates the indexes the widget and dashboard queries need, unless an index already serves.
--
-- A table that is already there keeps its data, columns, row level security and policies. Where its columns have other names
-- (chat_id for session_id, sent_at for created_at) they are recognised from the lists below; what is not recognised is named in
-- the last column of the result.
--
-- Locks, on tables that are already there
--   create index                 SHARE: reads go on, writes wait while the index is built. On a large table build it before,
--                                outside a transaction, and this file will find it and leave it:
--                                  create index concurrently on public.chat_messages (session_id, created_at);
--   alter publication add table  SHARE UPDATE EXCLUSIVE: reads and writes go on.
--   replica identity full        ACCESS EXCLUSIVE: reads and writes wait, for the milliseconds from there to the commit.
-- Each lock is waited for at most five seconds. Then the whole file fails and nothing has changed: run it again.
--
-- On plain Postgres run SUPABASE_COMPAT.sql first. The opposite of this file is DISABLE_REALTIME_CHAT.sql.
-- To name the agents, as the owner of the table:
--   insert into public.support_agents (user_id, display_name) values ('<the sub of their token>', 'Ann');

begin;

set local lock_timeout = '5s';

-- What must be there before anything is changed.
do $$
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
end
$$;

-- The tables, where they are not there yet.
do $$
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
begin
  if not (makes_agents or makes_sessions or makes_messages) then
    return;
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
  -- the table's own policies.
  if to_regprocedure('public.is_support_agent()') is null then
    execute format(
      $create$
        create function public.is_support_agent() returns boolean
        language sql stable security definer set search_path = ''
        as 'select exists (select from public.support_agents a where a.%I = auth.uid()%s%s)'
      $create$,
      agent_user,
      case agent_user_type when 'uuid' then '' else '::text' end,
      case when agent_active is null then '' else format(' and a.%I', agent_active) end);
    comment on function public.is_support_agent() is 'Whether the caller''s token belongs to an active support agent.';
    revoke execute on function public.is_support_agent() from public, anon;
    grant execute on function public.is_support_agent() to authenticated, service_role;
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
      create trigger realtime_chat_message_added after insert on public.chat_messages
        for each row execute function public.realtime_chat_message_added();
    end if;
  end if;
end
$$;

-- The indexes.
do $$
declare
  lacking record;
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
    -- The name is this file's own: an index that has it and does not serve is an invalid one, or one over columns of before.
    if to_regclass('public.' || lacking.index_name) is not null then
      execute format('drop index public.%I', lacking.index_name);
    end if;
    execute format(
      'create index %I on public.%I (%s)%s', lacking.index_name, lacking.relation, lacking.columns, ' where ' || lacking.unread);
  end loop;
end
$$;

-- The publication. Postgres 18 leaves generated columns out unless asked, and then refuses to update a table of full identity
-- that has any; so they are asked for.
do $$
begin
  if not exists (select from pg_publication p where p.pubname = 'supabase_realtime') then
    if current_setting('server_version_num')::int >= 180000 then
      execute 'create publication supabase_realtime with (publish_generated_columns = stored)';
    else
      create publication supabase_realtime;
    end if;
  end if;
end
$$;

-- The tables into the publication, and the replica identity. Last, because from the identity on readers wait too.
do $$
declare
  publication record;
  relation record;
  member regclass;
begin
  select p.puballtables as has_every_table, to_jsonb(p) ->> 'pubgencols' = 'n' as leaves_out_generated into publication
  from pg_publication p
  where p.pubname = 'supabase_realtime';

  for relation in
    select c.oid, c.relname as name, c.relreplident = 'f' as is_full,
      array(select t.relid::regclass from pg_partition_tree(c.oid) t union select c.oid::regclass) as members,
      exists (
        select from pg_attribute a where a.attrelid = c.oid and a.attgenerated = 's' and not a.attisdropped
      ) as has_generated
    from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) with ordinality as u (name, place)
    join pg_class c on c.oid = to_regclass('public.' || u.name)
    order by u.place
  loop
    -- Full identity and a generated column that is not published: Postgres would refuse every update of the table.
    continue when relation.has_generated and publication.leaves_out_generated;

    if not publication.has_every_table
      and not exists (
        select from pg_publication_tables t
        where t.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = relation.name)
      and not exists (
        select from pg_publication_rel r
        join pg_publication p on p.oid = r.prpubid and p.pubname = 'supabase_realtime'
        where r.prrelid = relation.oid)
    then
      execute format('alter publication supabase_realtime add table public.%I', relation.name);
    end if;

    -- The same holds for every other publication that has the table, and for a list of columns in any.
    continue when exists (
      select from pg_publication_rel r
      where r.prrelid = any (relation.members) and to_jsonb(r) ->> 'prattrs' is not null);
    continue when relation.has_generated and exists (
      select from pg_publication_tables t
      join pg_publication p on p.pubname = t.pubname and to_jsonb(p) ->> 'pubgencols' = 'n'
      where t.schemaname = 'public' and t.tablename = relation.name);

    foreach member in array relation.members loop
      if (select c.relreplident <> 'f' from pg_class c where c.oid = member) then
        execute format('alter table %s replica identity full', member);
      end if;
    end loop;
  end loop;
end
$$;

commit;

-- What is so now. A table is ready when its committed changes reach everyone who may read them, and nobody else.
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
    string_agg(j.index_name, ', ' order by j.index_name) filter (where not j.is_served and j.without = '{}') as lacking
  from judged j
  group by j.relation
),
publication as (
  select p.*, to_jsonb(p) ->> 'pubgencols' = 'n' as leaves_out_generated,
    array_to_string(array_remove(array[
      case when not p.pubinsert then 'insert' end,
      case when not p.pubupdate then 'update' end,
      case when not p.pubdelete then 'delete' end], null), ', ') as leaves_out
  from pg_publication p
  where p.pubname = 'supabase_realtime'
),
fact as (
  select u.name, u.place, c.oid, c.relrowsecurity,
    array(
      select m.relreplident
      from pg_class m
      where m.oid = c.oid or m.oid in (select t.relid from pg_partition_tree(c.oid) t)
    ) as identities,
    coalesce(p.puballtables, false)
      or exists (
        select from pg_publication_tables t
        where t.pubname = p.pubname and t.schemaname = 'public' and t.tablename = u.name)
      or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid) as is_published,
    coalesce(p.leaves_out, '') as leaves_out,
    (
      select string_agg(q.pubname, ', ' order by q.pubname)
      from pg_publication_rel r
      join pg_publication q on q.oid = r.prpubid
      where r.prrelid = c.oid and to_jsonb(r) ->> 'prattrs' is not null
    ) as column_lists,
    exists (
      select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid and to_jsonb(r) ->> 'prqual' is not null
    ) as is_filtered,
    (
      select string_agg(q.pubname, ', ' order by q.pubname)
      from pg_publication q
      where to_jsonb(q) ->> 'pubgencols' = 'n'
        and exists (select from pg_attribute a where a.attrelid = c.oid and a.attgenerated = 's' and not a.attisdropped)
        and (q.oid = p.oid or exists (
          select from pg_publication_tables t
          where t.pubname = q.pubname and t.schemaname = 'public' and t.tablename = u.name))
    ) as generated_left_out,
    (select count(*) from pg_policy y where y.polrelid = c.oid) as policies,
    exists (
      select from pg_policy y
      where y.polrelid = c.oid and y.polpermissive and y.polcmd in ('r', '*')
        and exists (select from unnest(y.polroles) as g (oid) where g.oid = 0 or pg_has_role(a.oid, g.oid, 'usage'))
    ) as has_reading_policy,
    has_any_column_privilege(a.oid, c.oid, 'select') as may_select
  from unnest(array['support_agents', 'live_chat_sessions', 'chat_messages']) with ordinality as u (name, place)
  left join pg_class c on c.oid = to_regclass('public.' || u.name) and c.relkind in ('r', 'p')
  left join publication p on true
  left join pg_roles a on a.rolname = 'authenticated'
),
verdict as (
  select f.*, i.said as indexes, array_remove(array[
    case when f.oid is null then 'the table does not exist: see the error above' end,
    case when f.oid is not null and not f.is_published and f.generated_left_out is null
      then format('not published: alter publication supabase_realtime add table public.%I', f.name) end,
    case when f.is_published and f.leaves_out <> ''
      then format(
        'the publication leaves out %s: '
        'alter publication supabase_realtime set (publish = ''insert, update, delete, truncate'')', f.leaves_out) end,
    case when f.column_lists is not null and f.identities <> '{f}'
      then format(
        'publication %s lists columns of it, so full identity would stop every update: '
        'add the table there without a list, then run this file again',
        f.column_lists) end,
    case when f.generated_left_out is not null
      then format(
        'publication %1$s leaves out generated columns, so full identity would stop every update: '
        'alter publication %1$s set (publish_generated_columns = stored), then run this file again',
        f.generated_left_out) end,
    case when f.column_lists is null and f.generated_left_out is null and exists (
        select from unnest(f.identities) as d (identity) where d.identity <> 'f')
      then format('replica identity is not full: alter table public.%I replica identity full', f.name) end,
    case when not f.relrowsecurity
      then format(
        'row level security is off, so whoever may select reads every row: '
        'create policies, then alter table public.%I enable row level security', f.name) end,
    case when f.relrowsecurity and not f.has_reading_policy
      then 'row level security is on and no policy lets authenticated read anything: create one' end,
    case when not f.may_select
      then format('authenticated may not select: grant select on public.%I to authenticated', f.name) end,
    case when i.lacking is not null then format('no index %s: run this file again', i.lacking) end,
    case when current_setting('wal_level') <> 'logical'
      then format(
        'wal_level is %s: alter system set wal_level = logical, then restart Postgres', current_setting('wal_level')) end
  ], null) as reasons
  from fact f
  left join index_summary i on i.relation = f.name
)
select
  v.name as "table",
  case when v.oid is null or not v.is_published then 'no' when v.is_filtered then 'yes, with a row filter' else 'yes' end
    as "in publication",
  (
    select string_agg(
      distinct case d.identity when 'd' then 'default' when 'f' then 'full' when 'i' then 'index' when 'n' then 'nothing' end, ', ')
    from unnest(v.identities) as d (identity)
  ) as "replica identity",
  case when v.oid is not null then
    format('%s, %s %s', case when v.relrowsecurity then 'on' else 'off' end, v.policies,
      case v.policies when 1 then 'policy' else 'policies' end)
  end as "row level security and policies",
  v.indexes as "indexes",
  case when v.reasons = '{}' then 'yes' else 'no' end as "ready",
  nullif(array_to_string(v.reasons, '; '), '') as "why not"
from verdict v
order by v.place;
