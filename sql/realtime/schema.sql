-- The schema that clients' SQL names. Policies call realtime.topic(), so everybody who has policies may look into it.

create schema if not exists realtime;

do $migrate$
declare
  api_role text;
begin
  for api_role in
    select r.rolname
    from pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role')
      and not has_schema_privilege(r.oid, 'realtime', 'usage')
    order by r.rolname
  loop
    execute format('grant usage on schema realtime to %I', api_role);
  end loop;
end
$migrate$;
