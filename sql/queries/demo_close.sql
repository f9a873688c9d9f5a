-- A chat is closed.
-- $1 text: the session's id
update public.live_chat_sessions
set status = 'closed'
where id = $1::text::uuid
