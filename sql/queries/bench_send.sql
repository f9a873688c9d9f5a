-- One broadcast on a public topic.
-- $1 int8: its id
-- $2 text: said in it
-- $3 int4: said in it
select realtime.send(
  jsonb_build_object('id', $1::int8, 'text', $2::text, 'room', $3::int4), 'bench', 'bench', false)
