-- What was noted goes into the comment that keep_partitions.sql has just made anew.
if obj_description('realtime.keep_partitions()'::regprocedure, 'pg_proc') like 'relay: %' then
  execute format(
    'comment on function realtime.keep_partitions() is %L',
    obj_description('realtime.keep_partitions()'::regprocedure, 'pg_proc') || '; not so before: '
      || (select coalesce(jsonb_agg(distinct n), '[]') from jsonb_array_elements(noted) as n)::text);
end if;

perform set_config('client_min_messages', own_messages, true);
perform set_config('lock_timeout', own_lock_timeout, true);
end
$migrate$;
