-- realtime.replay(): the newest messages of a private topic since a moment, oldest first. The relay asks for them once it knows
-- that a client may read the topic; it works with its owner's rights, because the relay may read no table by itself.

do $migrate$
begin
  if to_regprocedure('realtime.replay(text, timestamp, integer)') is null
    or obj_description(to_regprocedure('realtime.replay(text, timestamp, integer)'), 'pg_proc') like 'relay: %'
  then
    create or replace function realtime.replay(of_topic text, since timestamp, at_most integer)
    returns table (id uuid, event text, payload jsonb, binary_payload bytea)
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
    as $function$
      select found.id, found.event, found.payload, found.binary_payload
      from (
        select m.id, m.event, m.payload, m.binary_payload, m.inserted_at
        from realtime.messages m
        where m.topic = of_topic and m.private and m.extension = 'broadcast'
          and m.inserted_at >= since and m.inserted_at < timezone('utc', now()) + interval '1 minute'
        order by m.inserted_at desc, m.id desc
        limit at_most
      ) as found
      order by found.inserted_at, found.id
    $function$;
    comment on function realtime.replay(text, timestamp, integer) is
      'relay: the newest messages of a private topic since a moment, oldest first';
    revoke all on function realtime.replay(text, timestamp, integer) from public;
  end if;
end
$migrate$;
