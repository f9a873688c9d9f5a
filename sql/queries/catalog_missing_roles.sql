-- The roles among those allowed that do not exist.
-- $1 text[]  roles
select coalesce(array_agg(wanted.name order by wanted.place), '{}') as missing
from unnest($1::text[]) with ordinality as wanted (name, place)
where not exists (select from pg_roles as r where r.rolname = wanted.name);
