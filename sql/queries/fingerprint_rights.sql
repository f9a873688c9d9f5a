-- Versions of whatever decides what a role may read of a table: the table, its schema, its columns and its policies as they
-- are, the role's attributes, and what it is a member of.
-- {table}        oid
-- {memberships}   oid[]: the role, and all roles it is a member of
-- Its names are its own, so that those of the statement around it may stand in its places.
select 2 as kind, own.oid::bigint as entry, pg_catalog.concat_ws(' ', own.xmin, home.oid, home.xmin) as version
from pg_catalog.pg_class as own
join pg_catalog.pg_namespace as home on home.oid = own.relnamespace
where own.oid = {table}
union all
select 2, rule.oid::bigint, rule.xmin::text
from pg_catalog.pg_policy as rule
where rule.polrelid = {table}
union all
select 2, -part.attnum::bigint, part.xmin::text
from pg_catalog.pg_attribute as part
where part.attrelid = {table} and part.attnum > 0
union all
-- Its settings have a version of their own, and its password and expiry decide nothing here.
select 2, who.oid::bigint, pg_catalog.concat_ws(' ', who.rolsuper, who.rolbypassrls, who.rolinherit)
from pg_catalog.pg_roles as who
where who.oid = any ({memberships})
union all
select 2, joined.roleid::bigint << 32 | joined.member::bigint, joined.xmin::text
from pg_catalog.pg_auth_members as joined
where joined.member = any ({memberships})
union all
-- The owner of the database is a member of pg_database_owner.
select 2, base.oid::bigint, base.datdba::text
from pg_catalog.pg_database as base
where base.datname = pg_catalog.current_database()
