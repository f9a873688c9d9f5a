-- realtime.probe(): puts one message per extension into a topic, for the relay to see which of them a client's role can read. The
-- relay rolls them back; it may put nothing there by itself, so this works with its owner's rights.

begin
  if to_regprocedure('realtime.probe(text, text[])') is null
    or obj_description(to_regprocedure('realtime.probe(text, text[])'), 'pg_proc') like 'relay: %'
  then
    create or replace function realtime.probe(of_topic text, extensions text[]) returns table (id uuid, extension text)
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
    as $function$
      insert into realtime.messages (topic, extension)
      select of_topic, wanted.name from unnest(extensions) as wanted (name)
      returning id, extension
    $function$;
    comment on function realtime.probe(text, text[]) is
      'relay: puts a message per extension into a topic, to be rolled back once it is known who can read it';
    revoke all on function realtime.probe(text, text[]) from public;
  end if;
end;
