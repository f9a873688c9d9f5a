-- Puts a message per extension into a topic.
-- $1 text    topic
-- $2 text[]  extensions
select id::text, extension from realtime.probe($1, $2)
