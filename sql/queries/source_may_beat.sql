-- Whether this connection may write a message into the WAL.
select
    pg_catalog.pg_is_in_recovery() as is_standby,
    exists (
        select
        from pg_catalog.pg_proc as p
        where p.pronamespace = 'pg_catalog'::regnamespace
          and p.proname = 'pg_logical_emit_message'
          and p.proargtypes[2] = 'text'::regtype
          and pg_catalog.has_function_privilege(p.oid, 'execute')
    ) as may_execute
