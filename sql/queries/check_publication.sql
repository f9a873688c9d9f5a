-- The publication; no row when there is none.
-- $1 text: its name
select to_jsonb(found) as publication
from (
  select
    p.puballtables as is_for_all,
    p.pubinsert as inserts,
    p.pubupdate as updates,
    p.pubdelete as deletes,
    (select count(*) from pg_publication_tables t where t.pubname = p.pubname)
      -- One without a partition yet is listed nowhere.
      + (select count(*) from pg_publication_rel r join pg_class c on c.oid = r.prrelid
         where r.prpubid = p.oid and c.relkind = 'p' and not exists (select from pg_inherits i where i.inhparent = c.oid))
      as tables,
    -- One letter from PostgreSQL 18 on.
    coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's' as has_generated
  from pg_publication p
  where p.pubname = $1::text
) found
