-- The newest messages of a private topic, oldest first.
-- $1 text    topic
-- $2 bigint  since, in milliseconds since 1970
-- $3 int     how many at most
select id::text as id, event, payload::text as payload, binary_payload
from realtime.replay($1, timezone('utc', to_timestamp($2::bigint / 1000.0)), $3)
