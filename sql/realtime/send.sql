-- realtime.send(): broadcasts a JSON object to a topic when the transaction commits. It inserts as its caller, so policies hold it,
-- and what goes wrong is a warning: a broadcast never breaks the statement that a trigger hangs on.

begin
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null
    or obj_description(to_regprocedure('realtime.send(jsonb, text, text, boolean)'), 'pg_proc') like 'relay: %'
  then
    create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
    language plpgsql
    as $function$
    declare
      message uuid := gen_random_uuid();
      body jsonb := payload;
    begin
      if jsonb_typeof(body) is distinct from 'object' then
        raise exception 'the payload is not a JSON object';
      end if;
      if not body ? 'id' then
        body := body || jsonb_build_object('id', message);
      end if;
      perform set_config('realtime.topic', topic, true);
      insert into realtime.messages (id, topic, extension, event, payload, private)
      values (message, topic, 'broadcast', event, body, private);
    exception when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end
    $function$;
    comment on function realtime.send(jsonb, text, text, boolean) is
      'relay: broadcasts a JSON object to a topic when the transaction commits';
  end if;
end;
