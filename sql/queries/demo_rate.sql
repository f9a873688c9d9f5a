-- The visitor rates a chat.
-- $1 text: the session's id
-- $2 int2: one to five
-- $3 text: why
update public.live_chat_sessions
set rating = $2::int2, feedback = $3::text
where id = $1::text::uuid
