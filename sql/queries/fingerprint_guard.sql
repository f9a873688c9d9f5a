-- Versions of what a table's guard is read from: functions, policies and views as they are, and the newest function and
-- operator, because a new one may be what a name means from now on.
-- {functions}  oid[]: functions that its policies reach
-- {relations}  oid[]: tables and views that its policies reach
select 1 as kind, -1::bigint as entry, pg_catalog.max(f.oid)::text as version
from pg_catalog.pg_proc as f
union all
select 1, -2, pg_catalog.max(o.oid)::text
from pg_catalog.pg_operator as o
union all
select 1, f.oid::bigint, f.xmin::text
from pg_catalog.pg_proc as f
where f.oid = any ({functions})
union all
select 1, p.oid::bigint, p.xmin::text
from pg_catalog.pg_policy as p
where p.polrelid = any ({relations})
union all
select 1, v.oid::bigint, v.xmin::text
from pg_catalog.pg_rewrite as v
where v.ev_class = any ({relations})
