-- realtime.replay(): the newest messages of a private topic since a moment, oldest first. The relay asks for them once it knows
-- that a client may read the topic; it works with its owner's rights, because the relay may read no table by itself.
--
-- Messages of one transaction have the same inserted_at and random ids, so they are told apart by cmin, the number of the command
-- that inserted them, which Postgres keeps with every row: each call of realtime.send, each trigger and each INSERT is a command of
-- its own, also within one statement and below savepoints. That needs no column, so it holds for a table that Supabase made and for
-- rows that are there already. Rows of one INSERT with several rows have one cmin; they come as they lie in the table (ctid), which
-- is the order in which they were inserted unless Postgres put some of them into room that other rows had left. Transactions come
-- in the order in which they began.

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
        select
          m.id, m.event, m.payload, m.binary_payload, m.inserted_at, m.cmin::text::bigint as command, m.ctid as place
        from realtime.messages m
        where m.topic = of_topic and m.private and m.extension = 'broadcast'
          and m.inserted_at >= since and m.inserted_at < timezone('utc', now()) + interval '1 minute'
        order by m.inserted_at desc, command desc, place desc, m.id desc
        limit at_most
      ) as found
      order by found.inserted_at, found.command, found.place, found.id
    $function$;
    comment on function realtime.replay(text, timestamp, integer) is
      'relay: the newest messages of a private topic since a moment, oldest first';
    revoke all on function realtime.replay(text, timestamp, integer) from public;
  end if;
end;
