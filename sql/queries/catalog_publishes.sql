-- Whether the publication has any table, in one schema or at all.
-- $1 text  publication
-- $2 text  schema, null for any
select exists (
    select
    from pg_publication as p
    join pg_class as c on c.relkind in ('r', 'p') and c.relpersistence = 'p' and c.oid >= 16384
    join pg_namespace as n on n.oid = c.relnamespace
    where p.pubname = $1 and n.nspname = coalesce($2, n.nspname)
      and (p.puballtables
        or exists (
            select from pg_publication_rel as r
            where r.prpubid = p.oid
              and (r.prrelid = c.oid
                or r.prrelid in (select a.relid from pg_partition_ancestors(c.oid) as a (relid))))
        or exists (
            select from pg_publication_namespace as s
            where s.pnpubid = p.oid
              and (s.pnnspid = c.relnamespace
                or s.pnnspid in (
                    select parent.relnamespace
                    from pg_partition_ancestors(c.oid) as a (relid)
                    join pg_class as parent on parent.oid = a.relid))))
) as publishes;
