-- The publication; no row when there is none.
-- $1 text: its name
select to_jsonb(found) as publication
from (
  select
    p.puballtables as is_for_all,
    p.pubinsert as inserts,
    p.pubupdate as updates,
    p.pubdelete as deletes,
    (select count(*) from pg_publication_tables t where t.pubname = p.pubname) as tables
  from pg_publication p
  where p.pubname = $1::text
) found
