-- The first rows of a table in an order, as far as whoever asks may see them: each value in its type's own text. Texts
-- are made of the rows that are left.
-- {values}     the columns as texts
-- {columns}    the columns
-- {only}       only: rows of tables that inherit from this one are not its changes either
-- {table}      the table
-- {condition}  what rows must pass; operands are $1 and so on
-- {order}      the order
-- {limit}      how many
select {values}
from (
    select {columns}
    from {only} {table} as "relay row"
    where {condition}
    order by {order}
    limit {limit}
) as "relay row"
