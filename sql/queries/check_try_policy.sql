-- Judges rows by one policy, as the current role. The rows are made apart, so that nothing is decided about them before the
-- condition is run.
-- {table}       the table
-- {alias}       its name without a schema, by which the condition may call it
-- {expression}  the policy's condition
-- $1 text[]     the rows, each as Postgres writes it; null for a row of nulls
select ({expression}) as verdict
from (select ("relay row"::{table}).* from pg_catalog.unnest($1::text[]) as given ("relay row") offset 0) as {alias}
