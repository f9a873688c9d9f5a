-- A number that changes with the settings that sessions of a role in this database begin with.
-- {role}  oid
select pg_catalog.hashtextextended(
    coalesce(
        pg_catalog.string_agg(
            pg_catalog.concat_ws(' ', s.setdatabase, s.setrole, s.xmin), ','
            order by s.setdatabase, s.setrole),
        ''),
    0)
from pg_catalog.pg_db_role_setting as s
where s.setdatabase in (0, (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database()))
  and s.setrole in (0, {role})
