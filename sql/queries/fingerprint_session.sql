-- Versions of what a connection was opened as: the role that has that oid and name, which it acts as, and the settings that
-- sessions of the role in this database begin with.
-- {role}  oid
select 3 as kind, who.oid::bigint as entry, pg_catalog.concat_ws(' ', pg_catalog.current_setting('role'), who.rolname) as version
from pg_catalog.pg_roles as who
where who.oid = {role}
union all
select 3, s.setdatabase::bigint << 32 | s.setrole::bigint, s.xmin::text
from pg_catalog.pg_db_role_setting as s
where s.setdatabase in (0, (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database()))
  and s.setrole in (0, {role})
