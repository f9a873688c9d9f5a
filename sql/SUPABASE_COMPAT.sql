-- Gives plain Postgres what row level security policies written for Supabase stand on: the roles anon, authenticated and
-- service_role, and the functions auth.uid(), auth.role() and auth.jwt(). Run it once in each database, as a superuser or as a
-- role that may create roles, before ENABLE_REALTIME_CHAT.sql.
--
-- Only what is missing is made, and each thing made says so in its comment (\du+, \dn+, \df+ in psql). On a Supabase database
-- nothing is missing, so nothing changes; run twice, nothing changes the second time. A role that is made may use schema public of
-- this database; a role that is there keeps the rights it has, and the result says where it lacks that one.
-- UNDO_SUPABASE_COMPAT.sql takes back what this file made.
--
-- It is one statement and a query, so it is a transaction of its own; within yours it is part of yours, and begin; … rollback;
-- tries it.
-- No table is read or locked.

do $compat$
declare
  own_lock_timeout constant text := current_setting('lock_timeout');
  api_role name;
begin
  perform set_config('lock_timeout', '5s', true);

  -- The roles belong to the whole cluster; another database of it may have made them already.
  foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
    continue when exists (select from pg_roles r where r.rolname = api_role);

    if api_role = 'service_role' then
      -- The back end of the application: no policy holds it.
      begin
        create role service_role nologin noinherit bypassrls;
      exception when insufficient_privilege then
        create role service_role nologin noinherit;
        raise warning 'service_role does not bypass row level security: % may not grant that', current_user
          using hint = 'Have a superuser run: alter role service_role bypassrls. Until then give service_role policies of its own.';
      end;
    else
      -- Someone without a user, who has the public key only; and someone with a user, anonymous sign-ins included.
      execute format('create role %I nologin noinherit', api_role);
    end if;
    execute format('comment on role %I is %L', api_role, 'SUPABASE_COMPAT.sql: made in database ' || current_database());
    if to_regnamespace('public') is not null then
      execute format('grant usage on schema public to %I', api_role);
    end if;
  end loop;

  if to_regnamespace('auth') is null then
    create schema auth;
    comment on schema auth is 'SUPABASE_COMPAT.sql: who is calling, for policies';
    grant usage on schema auth to anon, authenticated, service_role;
  end if;

  -- The claims of the caller's token are in request.jwt.claims. Older gateways set one setting per claim; those win, as they do
  -- on Supabase.
  if to_regprocedure('auth.uid()') is null then
    create function auth.uid() returns uuid
    language sql stable
    as $function$
      select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
      )::uuid
    $function$;
    comment on function auth.uid() is 'SUPABASE_COMPAT.sql: the user of the caller''s token, or null';
  end if;

  if to_regprocedure('auth.role()') is null then
    create function auth.role() returns text
    language sql stable
    as $function$
      select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
      )
    $function$;
    comment on function auth.role() is 'SUPABASE_COMPAT.sql: the role the caller''s token names, or null';
  end if;

  if to_regprocedure('auth.jwt()') is null then
    create function auth.jwt() returns jsonb
    language sql stable
    as $function$
      select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
      )::jsonb
    $function$;
    comment on function auth.jwt() is 'SUPABASE_COMPAT.sql: all claims of the caller''s token, or null';
  end if;

  perform set_config('lock_timeout', own_lock_timeout, true);
end
$compat$;

-- What is so now.
with fact as (
  select r.name, r.place, p.oid, p.rolbypassrls as bypasses,
    has_schema_privilege(p.oid, to_regnamespace('public')::oid, 'usage') as may_use_public,
    has_schema_privilege(p.oid, to_regnamespace('auth')::oid, 'usage') as may_use_auth,
    has_function_privilege(p.oid, to_regprocedure('auth.uid()')::oid, 'execute') as may_ask
  from unnest(array['anon', 'authenticated', 'service_role']) with ordinality as r (name, place)
  left join pg_roles p on p.rolname = r.name
)
select f.name as "role",
  case when f.oid is not null then 'yes' else 'no' end as "exists",
  case f.bypasses when true then 'yes' when false then 'no' end as "bypasses row level security",
  case f.may_use_public when true then 'yes' when false then 'no' end as "may use public",
  case f.may_use_auth when true then 'yes' when false then 'no' end as "may use auth",
  case f.may_ask when true then 'yes' when false then 'no' end as "may ask auth.uid()",
  nullif(concat_ws('; ',
    case when f.oid is null or f.may_ask is null then 'not made: see the error above' end,
    case when not f.may_use_public then format('if it is to use tables there: grant usage on schema public to %I', f.name) end,
    case when not f.may_use_auth then format('grant usage on schema auth to %I', f.name) end,
    case when not f.may_ask then format('grant execute on function auth.uid() to %I', f.name) end,
    case when f.name = 'service_role' and not f.bypasses
      then 'policies hold it: alter role service_role bypassrls' end), '') as "note"
from fact f
order by f.place;
