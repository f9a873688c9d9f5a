-- realtime.keep_partitions(): makes the partitions of realtime.messages from yesterday to three days ahead, and drops those whose
-- messages are all older than 72 hours. The relay calls it every hour; it works with its owner's rights, because the relay may
-- create and drop nothing. A partition in use is left for the next time.

begin
  if to_regprocedure('realtime.keep_partitions()') is null
    or obj_description(to_regprocedure('realtime.keep_partitions()'), 'pg_proc') like 'relay: %'
  then
    create or replace function realtime.keep_partitions() returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '2s'
    as $function$
    declare
      today date := timezone('utc', now())::date;
      day date;
      name text;
    begin
      -- Two relays do not make the same partition.
      perform pg_advisory_xact_lock(hashtextextended('realtime.keep_partitions', 0));

      for day in select (today + n)::date from generate_series(-1, 3) as n loop
        name := to_char(day, '"messages_"YYYY_MM_DD');
        if to_regclass(format('realtime.%I', name)) is null then
          begin
            -- Attaching a table lets others go on reading and writing the rest; creating a partition would not.
            execute format('create table realtime.%I (like realtime.messages including all)', name);
            execute format('comment on table realtime.%I is %L', name, 'relay: messages of one day');
            execute format('alter table realtime.%I enable row level security', name);
            execute format(
              'alter table realtime.messages attach partition realtime.%I for values from (%L) to (%L)', name, day, day + 1);
          exception when lock_not_available or invalid_object_definition then
            -- Held by somebody, or covered by a partition of another name.
            raise warning 'partition % was not made: %', name, sqlerrm;
          end;
        end if;
      end loop;

      for name in
        select c.relname
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'realtime.messages'::regclass
          and c.relname ~ '^messages_\d{4}_\d{2}_\d{2}$'
          and to_date(c.relname, '"messages_"YYYY_MM_DD') + 1 <= timezone('utc', now()) - interval '72 hours'
        order by c.relname
      loop
        begin
          execute format('drop table realtime.%I', name);
        exception when lock_not_available then
          raise warning 'partition % was not dropped: %', name, sqlerrm;
        end;
      end loop;
    end
    $function$;
    comment on function realtime.keep_partitions() is
      'relay: makes the partitions of realtime.messages that are needed soon, and drops those that are past';
    revoke all on function realtime.keep_partitions() from public;
  end if;
end;

perform realtime.keep_partitions();
