-- The leaf partitions of a partitioned table, at any depth; no row for any other table.
-- $1 oid  table
select tree.relid::oid as oid
from pg_partition_tree($1::regclass) as tree
where tree.isleaf and tree.relid <> $1
order by tree.relid;
