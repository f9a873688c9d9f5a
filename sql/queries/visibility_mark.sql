-- What a table's guard was read from, as a text that changes with it: functions, policies and views as they are, and
-- the newest function and operator, because a new one may be what a name means from now on.
-- {functions}  oid[]: functions that its policies reach
-- {relations}  oid[]: tables and views that its policies reach
select pg_catalog.concat_ws(
    ' ',
    (select pg_catalog.max(f.oid) from pg_catalog.pg_proc as f),
    (select pg_catalog.max(o.oid) from pg_catalog.pg_operator as o),
    (
        select pg_catalog.string_agg(f.xmin::text, ',' order by f.oid)
        from pg_catalog.pg_proc as f
        where f.oid = any ({functions})
    ),
    '/',
    (
        select pg_catalog.string_agg(p.xmin::text, ',' order by p.oid)
        from pg_catalog.pg_policy as p
        where p.polrelid = any ({relations})
    ),
    '/',
    (
        select pg_catalog.string_agg(v.xmin::text, ',' order by v.oid)
        from pg_catalog.pg_rewrite as v
        where v.ev_class = any ({relations})
    )) as mark
