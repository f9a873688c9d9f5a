-- realtime.broadcast_changes(): for row triggers; broadcasts what happened to a row to a private topic.

begin
  if to_regprocedure('realtime.broadcast_changes(text, text, text, text, text, record, record, text)') is null
    or obj_description(
      to_regprocedure('realtime.broadcast_changes(text, text, text, text, text, record, record, text)'), 'pg_proc') like 'relay: %'
  then
    create or replace function realtime.broadcast_changes(
      topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record,
      level text default 'ROW')
    returns void
    language plpgsql
    as $function$
    begin
      if level = 'STATEMENT' then
        raise exception 'function can only be triggered for each row, not for each statement';
      end if;
      perform realtime.send(
        jsonb_build_object(
          'schema', table_schema, 'table', table_name, 'operation', operation, 'record', new, 'old_record', old),
        event_name, topic_name);
    exception when others then
      raise exception 'Failed to process the row: %', sqlerrm;
    end
    $function$;
    comment on function realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
      'relay: for row triggers; broadcasts what happened to a row to a private topic';
  end if;
end;
