-- Which of several rows pass a policy that reads generated columns, which are computed first.
-- $1 bigint[]   transactions that must be visible
-- $2 json       the images, as one array
-- {gate}        visibility_gate.sql
-- {expression}  the policy, over the table's columns under the table's own name
-- {row}         the row made of the image "relay asked"."image"
-- {alias}       the table's own name
select ({gate}) as is_visible, pg_catalog.array_agg("relay judged"."verdict" order by "relay judged"."place") as verdicts
from (
    select "relay asked"."place", (select ({expression}) is true from {row} as {alias}) as "verdict"
    from pg_catalog.json_array_elements($2::json) with ordinality as "relay asked" ("image", "place")
) as "relay judged"
