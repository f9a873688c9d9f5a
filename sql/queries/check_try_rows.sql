-- Reads the rows of the first block of a table, as the current role: row security judges each of them, and no more.
-- {table}  the table
select count(*) from {table} where ctid < '(1,0)'::pg_catalog.tid
