-- Whether one row, given as its image, passes a policy.
-- $1 bigint[]   transactions that must be visible
-- $2 json       the image
-- {gate}        visibility_gate.sql
-- {expression}  the policy, over the table's columns under the table's own name
-- {source}      the row made of the image $2
-- {oid}         the table: one that is made again under its name is not asked by a statement prepared for this one
select ({gate}) as is_visible, array[({expression}) is true] as verdicts
from {source} /* {oid} */
