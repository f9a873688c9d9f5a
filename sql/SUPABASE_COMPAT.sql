-- Gives plain Postgres what row level security policies written for Supabase stand on: the roles anon, authenticated and
-- service_role, and the functions auth.uid(), auth.role() and auth.jwt(). Run it once in each database, as a superuser or as a
-- role that may create roles, before ENABLE_REALTIME_CHAT.sql.
--
-- Only what is missing is made. On a Supabase database nothing is missing, so nothing changes; run twice, nothing changes the
-- second time. No table is read or locked.

begin;

set local lock_timeout = '5s';

-- The roles belong to the whole cluster; another database of it may have made them already.
do $$
begin
  -- Someone without a user: a request signed with the public key only.
  if not exists (select from pg_roles r where r.rolname = 'anon') then
    create role anon nologin noinherit;
    grant usage on schema public to anon;
  end if;

  -- Someone with a user, anonymous sign-ins included.
  if not exists (select from pg_roles r where r.rolname = 'authenticated') then
    create role authenticated nologin noinherit;
    grant usage on schema public to authenticated;
  end if;

  -- The back end of the application: no policy holds it.
  if not exists (select from pg_roles r where r.rolname = 'service_role') then
    begin
      create role service_role nologin noinherit bypassrls;
    exception when insufficient_privilege then
      create role service_role nologin noinherit;
      raise warning 'service_role does not bypass row level security: % may not grant that', current_user
        using hint = 'Have a superuser run: alter role service_role bypassrls. Until then give service_role policies of its own.';
    end;
    grant usage on schema public to service_role;
  end if;

  if to_regnamespace('auth') is null then
    create schema auth;
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
    comment on function auth.uid() is 'The user of the caller''s token, or null.';
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
    comment on function auth.role() is 'The role the caller''s token names, or null.';
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
    comment on function auth.jwt() is 'All claims of the caller''s token, or null.';
  end if;
end
$$;

commit;

select r.name as "role", to_regrole(r.name) is not null as "exists", p.rolbypassrls as "bypasses row level security",
  has_schema_privilege(p.oid, 'auth', 'usage') as "may use auth",
  has_function_privilege(p.oid, 'auth.uid()', 'execute') as "may ask auth.uid()"
from unnest(array['anon', 'authenticated', 'service_role']) with ordinality as r (name, place)
left join pg_roles p on p.rolname = r.name
order by r.place;
