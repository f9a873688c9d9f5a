-- What time it is in Postgres, in milliseconds since 1970.
select (extract(epoch from now()) * 1000)::bigint as asked_at
