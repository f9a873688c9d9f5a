-- realtime.send_binary(): as realtime.send, for bytes. They reach clients of protocol 2.0.0.

do $migrate$
begin
  if to_regprocedure('realtime.send_binary(bytea, text, text, boolean)') is null
    or obj_description(to_regprocedure('realtime.send_binary(bytea, text, text, boolean)'), 'pg_proc') like 'relay: %'
  then
    create or replace function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
    returns void
    language plpgsql
    as $function$
    begin
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
end
$migrate$;
