-- The role a connection acts as, and what it is a member of.
-- {memberships}  role_memberships.sql of who.oid
select who.oid, {memberships} as memberships
from pg_catalog.pg_roles as who
where who.rolname = current_user
