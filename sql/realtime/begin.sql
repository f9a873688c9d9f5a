-- What users of Supabase Realtime write SQL against: schema realtime, realtime.messages and its policies' ground, realtime.topic(),
-- realtime.send(), realtime.send_binary() and realtime.broadcast_changes(); and what the relay needs to serve it.
--
-- Only what is missing is made, and functions that an earlier version of this file made are renewed. On a Supabase database its own
-- objects stay as they are. Run it as the owner of schema realtime, or as a superuser; run twice, nothing changes the second time.

begin;

set local lock_timeout = '5s';
set local client_min_messages = 'warning';
