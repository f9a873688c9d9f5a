-- What the relay's own role needs: to call the three functions that work with their owner's rights. Nothing else in the schema is its
-- to read or write.

begin
  if exists (select from pg_roles r where r.rolname = relay_role) then
    if not has_schema_privilege(relay_role, 'realtime', 'usage') then
      execute format('grant usage on schema realtime to %I', relay_role);
      noted := noted || jsonb_build_object('what', 'usage', 'who', relay_role);
    end if;
    execute format(
      'grant execute on function realtime.keep_partitions(), realtime.probe(text, text[]), '
      'realtime.replay(text, timestamp, integer) to %I', relay_role);
  else
    raise warning 'role % does not exist', quote_ident(relay_role)
      using hint = 'Run RELAY_ROLE.sql, then this again.';
  end if;
end;
