-- Takes back what SUPABASE_COMPAT.sql made: the functions auth.uid(), auth.role() and auth.jwt(), schema auth and the roles anon,
-- authenticated and service_role, each only if its comment says that SUPABASE_COMPAT.sql made it. On a Supabase database that is
-- nothing. Run it in each database in which SUPABASE_COMPAT.sql was run, after the undo files of what stands on it
-- (UNDO_ENABLE_REALTIME_CHAT.sql, relay migrate --undo, UNDO_RELAY_ROLE.sql); running it again changes nothing.
--
-- Where something still stands on the functions or lies in the schema (a policy, a default, a function that calls one), the whole
-- file fails, says what it is, and nothing has changed. A role that something still names stays, because roles belong to the whole
-- cluster and another database may use it; the result says what names it. Run in the last of the databases, the file drops it.
--
-- It is one statement and a query, so it is a transaction of its own; within yours it is part of yours, and begin; … rollback;
-- tries it.
-- No table is read or locked.

do $undo$
declare
  own_lock_timeout constant text := current_setting('lock_timeout');
  item record;
  callers text;
begin
  perform set_config('lock_timeout', '5s', true);

  -- Postgres does not know what the body of a function calls; its next call would fail, and with it the write that fires it.
  select string_agg(p.oid::regprocedure::text, ', ' order by p.oid::regprocedure::text) into callers
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace and n.nspname not in ('pg_catalog', 'information_schema')
  where exists (
      select from unnest(array['uid', 'role', 'jwt']) as f (name)
      where p.prosrc ~ format('\mauth\.%s\s*\(', f.name)
        and obj_description(to_regprocedure(format('auth.%s()', f.name)), 'pg_proc') like 'SUPABASE\_COMPAT.sql: %')
    and coalesce(obj_description(p.oid, 'pg_proc') not like 'SUPABASE\_COMPAT.sql: %', true);
  if callers is not null then
    raise exception 'these functions call functions of schema auth, which would go: %', callers
      using hint = 'Change or drop them, then run this file again.';
  end if;

  for item in
    select f.oid::regprocedure as id
    from unnest(array[to_regprocedure('auth.uid()'), to_regprocedure('auth.role()'), to_regprocedure('auth.jwt()')]) as f (oid)
    where obj_description(f.oid, 'pg_proc') like 'SUPABASE\_COMPAT.sql: %'
  loop
    execute format('drop function %s', item.id);
  end loop;
  if obj_description(to_regnamespace('auth')::oid, 'pg_namespace') like 'SUPABASE\_COMPAT.sql: %' then
    drop schema auth;
  end if;

  for item in
    select r.rolname as name,
      shobj_description(r.oid, 'pg_authid') = 'SUPABASE_COMPAT.sql: made in database ' || current_database() as is_of_here
    from pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role')
      and shobj_description(r.oid, 'pg_authid') like 'SUPABASE\_COMPAT.sql: %'
    order by r.rolname
  loop
    begin
      if item.is_of_here and to_regnamespace('public') is not null then
        execute format('revoke usage on schema public from %I', item.name);
      end if;
      execute format('drop role %I', item.name);
    exception when dependent_objects_still_exist then
      null; -- The revoke is rolled back with it; the result says what names the role.
    end;
  end loop;

  perform set_config('lock_timeout', own_lock_timeout, true);
end
$undo$;

-- What is so now.
select u.what, case when u.is_there then 'yes' else 'no' end as "is there",
  case
    when not u.is_there then null
    when u.comment like 'SUPABASE\_COMPAT.sql: %' then coalesce(u.used, 'not undone: see the error above')
    else 'SUPABASE_COMPAT.sql did not make it, or made it before it said so in the comment'
  end as "note"
from (
  select 1 as place, format('function auth.%s()', f.name) as what,
    to_regprocedure(format('auth.%s()', f.name)) is not null as is_there,
    obj_description(to_regprocedure(format('auth.%s()', f.name)), 'pg_proc') as comment, null as used
  from unnest(array['uid', 'role', 'jwt']) as f (name)
  union all
  select 2, 'schema auth', to_regnamespace('auth') is not null, obj_description(to_regnamespace('auth')::oid, 'pg_namespace'), null
  union all
  select 3, format('role %s', n.name), r.oid is not null, shobj_description(r.oid, 'pg_authid'),
    (
      select 'still named by ' || string_agg(distinct
        case
          when d.dbid = 0 or d.dbid = (select b.oid from pg_database b where b.datname = current_database())
            then pg_describe_object(d.classid, d.objid, d.objsubid)
          else format('database %I', (select b.datname from pg_database b where b.oid = d.dbid))
        end, ', ') || '; take that back, then run this file again'
      from pg_shdepend d
      where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid
    )
  from unnest(array['anon', 'authenticated', 'service_role']) as n (name)
  left join pg_roles r on r.rolname = n.name
) u
order by u.place, u.what;
