-- Generated columns of several rows, as Postgres' own text, one row of texts each.
-- $1 json     the images, as one array
-- {values}    the expressions, over the table's columns, as texts
-- {table}     the table
-- {alias}     the table's own name
select (
    select array[{values}]
    from pg_catalog.json_populate_record(null::{table}, "relay asked"."image") as {alias}
) as computed
from pg_catalog.json_array_elements($1::json) with ordinality as "relay asked" ("image", "place")
order by "relay asked"."place"
