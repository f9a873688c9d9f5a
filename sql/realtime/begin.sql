-- What users of Supabase Realtime write SQL against: schema realtime, realtime.messages and its policies' ground, realtime.topic(),
-- realtime.send(), realtime.send_binary() and realtime.broadcast_changes(); and what the relay needs to serve it.
--
-- Only what is missing is made, and functions that an earlier version of this made are renewed. On a Supabase database its own
-- objects stay as they are. Run it as the owner of schema realtime, or as a superuser; run twice, nothing changes the second time.
-- What is made says so in its comment, and what was changed of what was there is in that of realtime.keep_partitions().
-- relay migrate --undo takes it back, and with --dry-run prints the SQL that does.
--
-- It is one statement, so it is a transaction of its own; within yours it is part of yours, and begin; … rollback; tries it.
--
-- Locks: none on any table but realtime.messages, and there only if it exists. Publishing it and attaching partitions let others
-- read and write it meanwhile; a missing index stops writing while it is built; a missing column, row security that is off, and
-- dropping a partition that is past stop everything until the end of the transaction. It waits at most 5 seconds for a lock, and
-- gives up as a whole; for partitions 2, and does without.

do $migrate$
declare
  own_lock_timeout constant text := current_setting('lock_timeout');
  own_messages constant text := current_setting('client_min_messages');
  -- Whom the relay logs in as.
  relay_role constant text := E'relay';
  -- What was not so before: an array of what and who. What earlier runs noted comes first.
  noted jsonb := coalesce(
    substring(obj_description(to_regprocedure('realtime.keep_partitions()'), 'pg_proc') from '; not so before: (\[.*)$'), '[]');
begin
perform set_config('lock_timeout', '5s', true);
perform set_config('client_min_messages', 'warning', true);
