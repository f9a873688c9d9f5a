-- Settings that only the login role has, so that they are in force where policies are judged although no session of an API
-- role would have them: nothing is set for the database or for everybody.
select
    quote_ident(session_user::text) as login,
    setting.name,
    s.setdatabase <> 0 as is_of_database
from pg_db_role_setting as s
cross join lateral (
    select lower(split_part(entry.text, '=', 1)) as name from unnest(s.setconfig) as entry (text)
) as setting
where s.setrole = (select r.oid from pg_roles as r where r.rolname = session_user)
  and s.setdatabase in (0, (select d.oid from pg_database as d where d.datname = current_database()))
  and setting.name in ('timezone', 'datestyle', 'intervalstyle', 'extra_float_digits', 'bytea_output', 'search_path')
  and not exists (
    select
    from pg_db_role_setting as general
    cross join lateral unnest(general.setconfig) as entry (text)
    where general.setrole = 0
      and general.setdatabase in (0, (select d.oid from pg_database as d where d.datname = current_database()))
      and lower(split_part(entry.text, '=', 1)) = setting.name)
order by setting.name;
