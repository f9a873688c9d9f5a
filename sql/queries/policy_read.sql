-- Which of the messages that were just put there the role can read.
-- $1 text  topic
select id::text
from realtime.messages
where topic = $1 and id = any (string_to_array(current_setting('relay.probes'), ',')::uuid[])
