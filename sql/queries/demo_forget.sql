-- Removes chats of the made-up visitor that were closed a while ago, so that a demo left running does not grow.
-- $1 text: the visitor
delete from public.live_chat_sessions
where visitor_id = $1::text::uuid and closed_at < now() - interval '10 minutes'
