-- How SQL names a type, without modifier.
-- $1 oid  the type
select format_type($1, -1);
