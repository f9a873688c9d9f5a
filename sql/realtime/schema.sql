-- The schema that clients' SQL names. Policies call realtime.topic(), so everybody who has policies may look into it.

declare
  api_role text;
begin
  if to_regnamespace('realtime') is null then
    create schema realtime;
    comment on schema realtime is 'relay: messages of private channels and of the database';
  end if;

  for api_role in
    select r.rolname
    from pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role')
      and not has_schema_privilege(r.oid, 'realtime', 'usage')
    order by r.rolname
  loop
    execute format('grant usage on schema realtime to %I', api_role);
    noted := noted || jsonb_build_object('what', 'usage', 'who', api_role);
  end loop;
end;
