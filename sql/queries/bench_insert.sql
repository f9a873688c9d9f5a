-- One row.
-- $1 int8: its id
-- $2 text: its owner
-- $3 int4: its room
insert into public.bench_rows values ($1::int8, $2::text::uuid, $3::int4, repeat('x', 120))
