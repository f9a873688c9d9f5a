-- A few rows of a table, as the current role reads them: small ones of its first block.
-- {table}  the table
select pg_catalog.array_agg(sample.row) as rows
from (
    select "relay row"::text as row
    from {table} as "relay row"
    where ctid < '(1,0)'::pg_catalog.tid and pg_catalog.pg_column_size("relay row".*) < 4096
    limit 20
) as sample
