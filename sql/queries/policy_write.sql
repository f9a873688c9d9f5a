-- Sends as the role would. Nothing is returned: that would need the right to read as well.
-- $1 text  topic
-- $2 text  extension
insert into realtime.messages (topic, extension) values ($1, $2)
