-- The first rows of a table in an order, as far as whoever asks may see them: each value in its type's own text. Texts
-- are made of the rows that are left.
-- Policies and conditions are evaluated under the settings of whoever asks, texts are made under the pinned ones. For each
-- row the settings are switched, the texts made, and the settings switched back before the next row is looked for: every
-- step refers to the one before, so none can be taken earlier, and offset 0 keeps them apart.
-- {values}     the columns as texts
-- {columns}    the columns
-- {only}       only: rows of tables that inherit from this one are not its changes either
-- {table}      the table
-- {condition}  what rows must pass; operands are $1 and so on
-- {order}      the order
-- {limit}      how many
-- {key}        a column of "relay row"
-- {pinned}     calls that set what is pinned
-- {own}        calls that set it back
select "relay shown"."texts"
from (
    select {columns}
    from {only} {table} as "relay row"
    where {condition}
    order by {order}
    limit {limit}
) as "relay row"
cross join lateral (
    select pg_catalog.num_nulls({pinned}) as "done"
    where pg_catalog.num_nulls({key}) is not null
    offset 0
) as "relay pinned"
cross join lateral (
    select array[{values}]::text[] as "texts"
    where "relay pinned"."done" is not null
    offset 0
) as "relay shown"
cross join lateral (
    select pg_catalog.num_nulls({own}) as "done"
    where "relay shown"."texts" is not null
    offset 0
) as "relay own"
