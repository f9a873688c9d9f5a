-- Makes the partitions of messages that are needed soon, and drops those that are past; nothing where `relay migrate` has not been.
begin read write;

do $$
begin
    if exists (
        select
        from pg_proc as p
        join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'realtime' and p.proname = 'keep_partitions'
          and has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute'))
    then
        perform realtime.keep_partitions();
    end if;
end
$$;

commit;
