-- What users of Supabase Realtime write SQL against: schema realtime, realtime.messages and its policies' ground, realtime.topic(),
-- realtime.send(), realtime.send_binary() and realtime.broadcast_changes(); and what the relay needs to serve it.
--
-- Only what is missing is made, and functions that an earlier version of this file made are renewed. On a Supabase database its own
-- objects stay as they are. Run it as the owner of schema realtime, or as a superuser; run twice, nothing changes the second time.
--
-- Locks: none on any table but realtime.messages, and there only if it exists. Publishing it and attaching partitions let others
-- read and write it meanwhile; a missing index stops writing while it is built; a missing column, row security that is off, and
-- dropping a partition that is past stop everything for a moment. It waits at most 5 seconds for a lock, and gives up as a whole;
-- for partitions 2, and does without.

begin;

set local lock_timeout = '5s';
set local client_min_messages = 'warning';
