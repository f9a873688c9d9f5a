-- Which of several values pass a condition.
-- $1 bigint[]   transactions that must be visible
-- $2 text[]     the values
-- $3            the operand, when there is one: text or text[]
-- {gate}        visibility_gate.sql
-- {condition}   the condition over "relay asked"."value" and $3
select
    ({gate}) as is_visible,
    pg_catalog.array_agg(({condition}) is true order by "relay asked"."place") as verdicts
from pg_catalog.unnest($2::text[]) with ordinality as "relay asked" ("value", "place")
