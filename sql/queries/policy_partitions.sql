-- Makes the partitions of messages that are needed soon, and drops those that are past.
select realtime.keep_partitions()
