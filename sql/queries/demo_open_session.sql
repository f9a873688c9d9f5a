-- A visitor opens a chat.
-- $1 text: the session's id
-- $2 text: the visitor's name
-- $3 text: the subject
insert into public.live_chat_sessions (id, visitor_name, subject)
values ($1::text::uuid, $2::text, $3::text)
