-- Whether one row, given as its image, passes a policy.
-- $1 bigint[]   transactions that must be visible
-- $2 json       the image
-- {gate}        visibility_gate.sql
-- {expression}  the policy, over the table's columns under the table's own name
-- {source}      the row made of the image $2
-- {made_for}    table and rights: with others it is another statement, as those were when it was parsed
select ({gate}) as is_visible, array[({expression}) is true] as verdicts
from {source} /* {made_for} */
