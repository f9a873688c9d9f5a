-- The tables of a publication, as Postgres lists them.
-- $1 text  publication
select t.schemaname::text as schema, t.tablename::text as name
from pg_publication_tables as t
where t.pubname = $1
