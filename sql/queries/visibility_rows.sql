-- Which of several rows, given as their images, pass a policy. Asked inside an aggregate, because a bare set of
-- records is planned as a hundred rows, and subqueries of the policy would then read their whole tables.
-- $1 bigint[]   transactions that must be visible
-- $2 json       the images, as one array
-- {gate}        visibility_gate.sql
-- {expression}  the policy, over the table's columns under the table's own name
-- {source}      the rows made of the images $2
-- {made_for}    table and rights: with others it is another statement, as those were when it was parsed
select ({gate}) as is_visible, pg_catalog.array_agg(({expression}) is true) as verdicts
from {source} /* {made_for} */
