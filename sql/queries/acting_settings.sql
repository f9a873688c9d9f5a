-- What a role's own sessions in this database would begin with: settings of everybody, of the database, of the role, and
-- of the role in the database, the most specific one of each name.
-- $1 text    role
-- $2 text[]  names that are left out
select distinct on (setting.name)
    setting.name,
    setting.value
from pg_catalog.pg_db_role_setting as s
cross join lateral (
    select
        pg_catalog.lower(pg_catalog.split_part(entry.text, '=', 1)) as name,
        pg_catalog.substr(entry.text, pg_catalog.strpos(entry.text, '=') + 1) as value
    from pg_catalog.unnest(s.setconfig) as entry (text)
) as setting
where s.setdatabase in (0, (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database()))
  and s.setrole in (0, (select r.oid from pg_catalog.pg_roles as r where r.rolname = $1))
  and setting.name <> all ($2)
order by setting.name, s.setrole <> 0 desc, s.setdatabase <> 0 desc;
