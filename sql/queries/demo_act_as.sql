-- Makes the current transaction act as the user of a token, as PostgREST does.
-- $1 text: the claims, as JSON
select
  set_config('role', $1::text::jsonb ->> 'role', true),
  set_config('request.jwt.claims', $1::text, true)
