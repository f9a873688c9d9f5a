-- Takes back what RELAY_ROLE.sql made: role relay, with its memberships, its right to connect to this database, and what
-- relay migrate granted to it here. Only if the comment of the role says that RELAY_ROLE.sql made it: a role of that name that
-- somebody else made is not touched. Stop the relay before; while it is connected, the file fails and nothing has changed.
-- Roles belong to the whole cluster: the role goes for every database. Running the file again changes nothing.
--
-- A role that still owns something or has further rights stays as it is; the result says what they are.
-- A replication slot belongs to no role and is not dropped here. One that nobody reads keeps the write-ahead log, and in the end
-- fills the disk: the result names those of this database.
--
-- It is one statement and a query, so it is a transaction of its own; within yours it is part of yours, and begin; … rollback;
-- tries it. No table is read or locked.

do $undo$
<<undo>>
declare
  own_lock_timeout constant text := current_setting('lock_timeout');
  item record;
begin
  if coalesce(shobj_description(to_regrole('relay'), 'pg_authid') not like 'RELAY\_ROLE.sql: %', true) then
    exit undo;
  end if;
  if exists (select from pg_stat_activity a where a.usename = 'relay') then
    raise exception 'role relay is connected'
      using hint = 'Stop the relay, then run this file again.';
  end if;
  perform set_config('lock_timeout', '5s', true);

  begin
    if exists (
      select from pg_database d, aclexplode(d.datacl) a
      where d.datname = current_database() and a.grantee = to_regrole('relay'))
    then
      execute format('revoke all on database %I from relay', current_database());
    end if;
    for item in
      select p.oid::regprocedure as id
      from pg_proc p
      where p.pronamespace = to_regnamespace('realtime')
        and exists (select from aclexplode(p.proacl) a where a.grantee = to_regrole('relay'))
    loop
      execute format('revoke all on function %s from relay', item.id);
    end loop;
    if exists (
      select from pg_namespace n, aclexplode(n.nspacl) a where n.nspname = 'realtime' and a.grantee = to_regrole('relay'))
    then
      revoke all on schema realtime from relay;
    end if;
    drop role relay;
  exception when dependent_objects_still_exist then
    null; -- The revokes are rolled back with it; the result says what there is.
  end;

  perform set_config('lock_timeout', own_lock_timeout, true);
end
$undo$;

-- What is so now.
select 'relay' as "role",
  case when r.oid is not null then 'yes' else 'no' end as "is there",
  case
    when r.oid is null then null
    when coalesce(shobj_description(r.oid, 'pg_authid') not like 'RELAY\_ROLE.sql: %', true)
      then 'RELAY_ROLE.sql did not make it, or made it before it said so in the comment: drop role relay drops it'
    else coalesce(
      (
        select 'still has to do with '
          || string_agg(distinct
            case
              when d.dbid = 0 or d.dbid = (select b.oid from pg_database b where b.datname = current_database())
                then pg_describe_object(d.classid, d.objid, d.objsubid)
              else format('database %I', (select b.datname from pg_database b where b.oid = d.dbid))
            end, ', ')
          || case
            when bool_or(d.deptype = 'o') then '; give what it owns to another role, then run this file again'
            else '; take its rights back there, then run this file again'
          end
        from pg_shdepend d
        where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid
      ),
      'not undone: see the error above')
  end as "note",
  (
    select string_agg(format('%I (%s)', s.slot_name, case when s.active then 'in use' else 'nobody reads it' end), ', '
      order by s.slot_name)
    from pg_replication_slots s
    where s.database = current_database() and s.plugin = 'pgoutput'
  ) as "slots of this database"
from (values (to_regrole('relay')::oid)) as r (oid);
