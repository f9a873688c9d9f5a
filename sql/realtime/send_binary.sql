-- realtime.send_binary(): as realtime.send, for bytes. They reach clients of protocol 2.0.0, in frames that have one byte for the
-- length of the topic, with realtime: before it, and one for that of the event: what has no such length is a warning.

begin
  if to_regprocedure('realtime.send_binary(bytea, text, text, boolean)') is null
    or obj_description(to_regprocedure('realtime.send_binary(bytea, text, text, boolean)'), 'pg_proc') like 'relay: %'
  then
    create or replace function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
    returns void
    language plpgsql
    as $function$
    begin
      if octet_length(topic) > 246 or octet_length(event) > 255 then
        raise exception 'bytes need a topic of at most 246 bytes and an event of at most 255';
      end if;
      perform set_config('realtime.topic', topic, true);
      insert into realtime.messages (topic, extension, event, binary_payload, private)
      values (topic, 'broadcast', event, payload, private);
    exception when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end
    $function$;
    comment on function realtime.send_binary(bytea, text, text, boolean) is
      'relay: broadcasts bytes to a topic when the transaction commits';
  end if;
end;
