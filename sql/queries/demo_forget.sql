-- Removes chats that were closed a while ago, so that a demo left running does not grow.
delete from public.live_chat_sessions
where closed_at < now() - interval '10 minutes'
