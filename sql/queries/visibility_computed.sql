-- Generated columns of several rows, as Postgres' own text, one row of texts each.
-- $1 json     the images, as one array
-- {values}    the columns, as texts
-- {source}    the row made of the image "relay asked"."image", with its generated columns
select (select array[{values}] from {source}) as computed
from pg_catalog.json_array_elements($1::json) with ordinality as "relay asked" ("image", "place")
order by "relay asked"."place"
