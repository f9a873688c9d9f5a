-- The schema that clients' SQL names. Policies call realtime.topic(), so everybody who has policies may look into it. And the
-- record of what was there before, for relay migrate --undo.

declare
  api_role text;
begin
  if to_regnamespace('realtime') is null then
    create schema realtime;
    comment on schema realtime is 'relay: messages of private channels and of the database';
  end if;

  if to_regclass('realtime.relay_undo') is null then
    create table realtime.relay_undo (
      -- Was off, was not published, was not granted.
      what text not null check (what in ('row level security', 'published', 'usage', 'select', 'insert', 'update')),
      -- To which role it was not granted.
      who text not null default '',
      primary key (what, who)
    );
    comment on table realtime.relay_undo is 'relay: what relay migrate changed of what was there; --undo changes it back';
    revoke all on realtime.relay_undo from public;
    for api_role in
      select r.rolname from pg_roles r where r.rolname in ('anon', 'authenticated', 'service_role') order by r.rolname
    loop
      execute format('revoke all on realtime.relay_undo from %I', api_role);
    end loop;
  elsif not exists (
    select
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_roles o on o.oid = c.relowner
    where c.oid = 'realtime.relay_undo'::regclass and c.relkind = 'r' and not c.relhasrules and not c.relhastriggers
      and (o.rolsuper or o.rolname = current_user or o.oid = n.nspowner))
  then
    raise exception 'realtime.relay_undo is there and is another table than the record of this' using errcode = 'wrong_object_type';
  end if;

  for api_role in
    select r.rolname
    from pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role')
      and not has_schema_privilege(r.oid, 'realtime', 'usage')
    order by r.rolname
  loop
    execute format('grant usage on schema realtime to %I', api_role);
    insert into realtime.relay_undo (what, who) values ('usage', api_role) on conflict do nothing;
  end loop;
end;
