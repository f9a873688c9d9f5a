-- The table of this exact name.
-- $1 text  schema
-- $2 text  table
select c.oid
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p');
