-- Which of several rows the role sees in the table itself, with the contents of their images. A row that changed
-- since is not seen: showing what it was would show what the role may no longer read.
-- $1 bigint[]  transactions that must be visible
-- $2 json      the images, as one array
-- {gate}       visibility_gate.sql
-- {table}      the table
-- {alias}      what the table is called here
-- {source}     the row "relay image" made of the image "relay asked"."image"
-- {same}       the key and the columns the role may read equal those of "relay image"; columns missing from
--              "relay asked"."given" are not compared
-- {made_for}    table and rights: with others it is another statement, as those were when it was parsed
select
    ({gate}) as is_visible,
    pg_catalog.array_agg(
        exists (select from {table} as {alias} where {same})
        order by "relay asked"."place") as verdicts
from (
    select "element"."value" as "image", "element"."value"::jsonb as "given", "element"."place"
    from pg_catalog.json_array_elements($2::json) with ordinality as "element" ("value", "place")
    offset 0
) as "relay asked"
cross join lateral {source} /* {made_for} */
