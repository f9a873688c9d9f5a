-- realtime.messages: what the database broadcasts, one partition per day, and the policies of private channels. Row level security
-- is on and there is no policy, so a private channel is closed until somebody writes one.
-- A table that is there already keeps its columns, its policies and its grants; only what is missing is added.

declare
  api_role text;
  privilege text;
begin
  if to_regclass('realtime.messages') is null then
    create table realtime.messages (
      topic text not null,
      extension text not null,
      payload jsonb,
      event text,
      private boolean default false,
      -- Without a time zone, as users know it; partitions and replay count in UTC whatever the session's zone is.
      updated_at timestamp not null default timezone('utc', now()),
      inserted_at timestamp not null default timezone('utc', now()),
      id uuid not null default gen_random_uuid(),
      binary_payload bytea,
      primary key (id, inserted_at),
      constraint messages_payload_exclusive check (payload is null or binary_payload is null)
    ) partition by range (inserted_at);
    comment on table realtime.messages is 'relay: what the database broadcasts, and the policies of private channels';
    alter table realtime.messages enable row level security;
  end if;

  if exists (
    select from unnest(array['topic', 'extension', 'payload', 'event', 'private', 'updated_at', 'inserted_at', 'id']) as known (name)
    where not exists (
      select from pg_attribute a
      where a.attrelid = 'realtime.messages'::regclass and a.attname = known.name and not a.attisdropped))
    or not exists (
      select from pg_partitioned_table p
      where p.partrelid = 'realtime.messages'::regclass and p.partstrat = 'r')
  then
    raise exception 'realtime.messages is there and is another table than the one that clients'' policies are written for'
      using errcode = 'wrong_object_type';
  end if;

  -- Tables made before binary messages were.
  if not exists (
    select from pg_attribute a
    where a.attrelid = 'realtime.messages'::regclass and a.attname = 'binary_payload' and not a.attisdropped)
  then
    alter table realtime.messages add column binary_payload bytea;
    alter table realtime.messages
      add constraint messages_payload_exclusive check (payload is null or binary_payload is null);
    comment on column realtime.messages.binary_payload is 'relay: what realtime.send_binary() was given';
  end if;

  if not (select c.relrowsecurity from pg_class c where c.oid = 'realtime.messages'::regclass) then
    alter table realtime.messages enable row level security;
    noted := noted || jsonb_build_object('what', 'row level security', 'who', '');
  end if;

  if to_regclass('realtime.messages_inserted_at_topic_index') is null then
    create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
      where extension = 'broadcast' and private;
    comment on index realtime.messages_inserted_at_topic_index is 'relay: what realtime.replay() looks for';
  end if;

  for api_role, privilege in
    select r.rolname, p.name
    from pg_roles r
    cross join unnest(array['select', 'insert', 'update']) with ordinality as p (name, place)
    where r.rolname in ('anon', 'authenticated', 'service_role')
      and not has_table_privilege(r.oid, 'realtime.messages', p.name)
    order by r.rolname, p.place
  loop
    execute format('grant %s on realtime.messages to %I', privilege, api_role);
    noted := noted || jsonb_build_object('what', privilege, 'who', api_role);
  end loop;
end;
