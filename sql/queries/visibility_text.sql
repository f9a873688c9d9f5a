-- A table's policies and generated columns as Postgres prints them under the search path of now: the name of what comes
-- with Postgres is qualified where it would mean something else without.
-- $1 oid  the table
select pg_catalog.concat_ws(
    ' ',
    (
        select pg_catalog.string_agg(pg_catalog.pg_get_expr(p.polqual, p.polrelid), ' ')
        from pg_catalog.pg_policy as p
        where p.polrelid = $1
    ),
    (
        select pg_catalog.string_agg(pg_catalog.pg_get_expr(d.adbin, d.adrelid), ' ')
        from pg_catalog.pg_attrdef as d
        join pg_catalog.pg_attribute as a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where d.adrelid = $1 and a.attgenerated <> ''
    )) as text;
