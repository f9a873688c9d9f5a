-- Which of these messages the role can read.
-- $1 text[]  their ids
select id::text from realtime.messages where id = any ($1::text[]::uuid[])
