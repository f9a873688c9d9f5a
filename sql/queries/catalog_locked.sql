-- Those of the tables that somebody has locked, or is about to lock, so that even reading their expressions would wait.
-- $1 oid[]  tables
select l.relation
from pg_locks as l
where l.locktype = 'relation'
  and l.database = (select d.oid from pg_database as d where d.datname = current_database())
  and l.mode = 'AccessExclusiveLock'
  and l.relation = any ($1::oid[]);
