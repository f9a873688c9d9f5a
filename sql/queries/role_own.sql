-- The role a connection acts as, and what it is a member of.
-- {held}  role_held.sql of who.oid
select who.oid, {held} as held
from pg_catalog.pg_roles as who
where who.rolname = current_user
