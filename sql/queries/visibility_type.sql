-- How SQL names a type, without modifier.
-- $1 oid  the type
select pg_catalog.format_type($1, -1);
