-- The publication through which realtime.messages reaches the relay's slot, beside the one of the tables that clients subscribe to:
-- so messages are streamed and are no table that a client can subscribe to.

begin
  if not exists (select from pg_publication p where p.pubname = 'supabase_realtime_messages_publication') then
    create publication supabase_realtime_messages_publication for table realtime.messages
      with (publish = 'insert', publish_via_partition_root = true);
    comment on publication supabase_realtime_messages_publication is 'relay: what the database broadcasts';
  elsif not exists (
    select
    from pg_publication p
    where p.pubname = 'supabase_realtime_messages_publication'
      and (p.puballtables
        or exists (
          select from pg_publication_rel r
          where r.prpubid = p.oid and r.prrelid = 'realtime.messages'::regclass)))
  then
    alter publication supabase_realtime_messages_publication add table realtime.messages;
    noted := noted || jsonb_build_object('what', 'published', 'who', '');
  end if;
end;
