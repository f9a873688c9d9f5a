-- Creates the login role the relay connects with, with as few rights as its work allows: it may stream the write-ahead log, and
-- it may become anon, authenticated or service_role to ask Postgres what those may read. By itself it may read no table.
-- Run it in the database the relay serves, as a superuser or as the administrator of a managed service. Run twice, it changes
-- nothing the second time.
--
-- The role that it makes says so in its comment (\du+ in psql). A role relay that somebody else made is not touched: the result
-- says what it lacks, with the statements. UNDO_RELAY_ROLE.sql takes back what this file made.
--
-- It is one statement and a query, so it is a transaction of its own; within yours it is part of yours, and begin; … rollback;
-- tries it. No table is read or locked.
--
-- The password is yours to set; it is not in this file so that it is in no history:
--   alter role relay password '…';
-- and the relay is told with postgres.url = "postgres://relay:…@host:5432/database".
--
-- The server must run with wal_level = logical (a restart), one free replication slot and one free wal sender, and pg_hba.conf
-- must let the role in. pgoutput connects to the database by name, so no line for the word replication is needed there.
--
-- Managed services do not let their administrator create roles with REPLICATION everywhere. Where this file could not, its result
-- says so; the statement is then
--   Amazon RDS, Aurora       grant rds_replication to relay;              (this file does it)
--                            wal_level: rds.logical_replication = 1 in the parameter group, then reboot.
--   Google Cloud SQL         alter user relay with replication;           as postgres
--                            wal_level: flag cloudsql.logical_decoding = on.
--   Azure Database           alter role relay with replication;           as the server administrator
--                            wal_level: server parameter wal_level = logical, then restart.
--   Supabase                 alter role relay with replication;           as postgres
--                            wal_level is logical already. Connect directly (port 5432), not through the pooler.
--   Neon                     alter role relay with replication;           as a member of neon_superuser
--                            wal_level: logical replication, in the project's settings. Use the host name without -pooler.

do $role$
<<role>>
declare
  own_lock_timeout constant text := current_setting('lock_timeout');
  how constant text :=
    case when current_setting('server_version_num')::int >= 160000 then ' with inherit false, set true' else '' end;
  api_role text;
begin
  perform set_config('lock_timeout', '5s', true);

  if not exists (select from pg_roles r where r.rolname = 'relay') then
    begin
      create role relay login replication noinherit;
    exception when insufficient_privilege then
      create role relay login noinherit;
    end;
    comment on role relay is 'RELAY_ROLE.sql: the role the relay connects with';
  elsif (
    select coalesce(shobj_description(r.oid, 'pg_authid') not like 'RELAY\_ROLE.sql: %', true)
    from pg_roles r where r.rolname = 'relay')
  then
    perform set_config('lock_timeout', own_lock_timeout, true);
    exit role; -- Somebody else's, perhaps for another purpose.
  else
    -- One attribute at a time, and only those that differ: each may need a right of its own.
    if (select not r.rolcanlogin from pg_roles r where r.rolname = 'relay') then
      alter role relay login;
    end if;
    if (select r.rolinherit from pg_roles r where r.rolname = 'relay') then
      alter role relay noinherit;
    end if;
    if (select not r.rolreplication from pg_roles r where r.rolname = 'relay') then
      begin
        alter role relay replication;
      exception when insufficient_privilege then
        null; -- The result below says what to do.
      end;
    end if;
  end if;

  -- The right to become a role, not the rights of that role: what the relay may read is always somebody's.
  for api_role in
    select r.rolname
    from pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role')
      and not exists (
        select
        from pg_auth_members m
        join pg_roles o on o.oid = m.member and o.rolname = 'relay'
        where m.roleid = r.oid)
    order by r.rolname
  loop
    execute format('grant %I to relay%s', api_role, how);
  end loop;

  if exists (
    select from pg_roles r where r.rolname = 'rds_replication' and not pg_has_role('relay', r.oid, 'member'))
  then
    execute 'grant rds_replication to relay' || case how when '' then '' else ' with inherit true' end;
  end if;

  if not has_database_privilege('relay', current_database(), 'connect') then
    execute format('grant connect on database %I to relay', current_database());
  end if;

  perform set_config('lock_timeout', own_lock_timeout, true);
end
$role$;

-- What is so now.
with fact as (
  select r.*,
    r.rolreplication or exists (
      select from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid and g.rolname = 'rds_replication'
    ) as may_stream,
    array(
      select g.rolname::text
      from pg_auth_members m join pg_roles g on g.oid = m.roleid
      where m.member = r.oid and g.rolname in ('anon', 'authenticated', 'service_role')
      order by g.rolname
    ) as may_become,
    array(
      select g.rolname::text
      from pg_auth_members m join pg_roles g on g.oid = m.roleid
      where m.member = r.oid and g.rolname not in ('anon', 'authenticated', 'service_role', 'rds_replication')
      order by g.rolname
    ) as may_also_become,
    array(
      select g.rolname::text
      from pg_roles g
      where g.rolname in ('anon', 'authenticated', 'service_role')
        and not exists (select from pg_auth_members m where m.roleid = g.oid and m.member = r.oid)
      order by g.rolname
    ) as may_not_become,
    -- From Postgres 16 on each membership says so for itself; the role's own attribute is what new ones begin with.
    array(
      select g.rolname::text
      from pg_auth_members m join pg_roles g on g.oid = m.roleid
      where m.member = r.oid and g.rolname in ('anon', 'authenticated', 'service_role')
        and to_jsonb(m) ->> 'inherit_option' = 'true'
      order by g.rolname
    ) as inherits,
    coalesce(shobj_description(r.oid, 'pg_authid') like 'RELAY\_ROLE.sql: %', false) as is_own
  from pg_roles r
  where r.rolname = 'relay'
),
verdict as (
  select f.*, array_remove(array[
    case when not f.rolcanlogin then 'may not log in: alter role relay login' end,
    case when not f.may_stream
      then 'no right to replicate: alter role relay replication, or see the list of services at the top of this file' end,
    case when f.rolinherit then 'reads as those roles unasked: alter role relay noinherit' end,
    case when f.inherits <> '{}'
      then format('has the rights of %s unasked: grant %1$s to relay with inherit false', array_to_string(f.inherits, ', ')) end,
    case when f.may_not_become <> '{}'
      then format('may not become %s: grant %1$s to relay', array_to_string(f.may_not_become, ', ')) end,
    case when f.may_become = '{}' and f.may_not_become = '{}'
      then 'anon, authenticated and service_role do not exist: run SUPABASE_COMPAT.sql, then this file again' end,
    case when not has_database_privilege(f.oid, current_database(), 'connect')
      then format('may not connect: grant connect on database %I to relay', current_database()) end,
    case when f.rolsuper then 'more than it needs: alter role relay nosuperuser' end,
    case when f.rolbypassrls then 'more than it needs: alter role relay nobypassrls' end,
    case when f.rolcreaterole then 'more than it needs: alter role relay nocreaterole' end,
    case when f.rolcreatedb then 'more than it needs: alter role relay nocreatedb' end,
    case when f.may_also_become <> '{}'
      then format('more than it needs: revoke %s from relay', array_to_string(f.may_also_become, ', ')) end,
    case when current_setting('wal_level') <> 'logical'
      then format('wal_level is %s: alter system set wal_level = logical, then restart Postgres', current_setting('wal_level')) end
  ], null) as reasons
  from fact f
)
select
  v.rolname as "role",
  case when v.rolcanlogin then 'yes' else 'no' end as "may log in",
  case when v.may_stream then 'yes' else 'no' end as "may stream",
  array_to_string(v.may_become, ', ') as "may become",
  case when v.rolinherit or v.inherits <> '{}' then 'yes' else 'no' end as "inherits their rights",
  case when v.reasons = '{}' then 'yes' else 'no' end as "ready",
  nullif(array_to_string(v.reasons, '; '), '') as "why not",
  case when not v.is_own then 'this file did not make the role, so it changes nothing about it' end as "note"
from verdict v;
