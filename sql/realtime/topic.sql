-- realtime.topic(): the topic being joined or sent to, for policies on realtime.messages.

begin
  if to_regprocedure('realtime.topic()') is null
    or obj_description(to_regprocedure('realtime.topic()'), 'pg_proc') like 'relay: %'
  then
    create or replace function realtime.topic() returns text
    language sql stable
    as $function$
      select nullif(current_setting('realtime.topic', true), '')
    $function$;
    comment on function realtime.topic() is 'relay: the topic that a policy is asked about, without a prefix, or null';
  end if;
end;
