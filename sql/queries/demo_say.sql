-- Somebody says something.
-- $1 text: the session's id
-- $2 text: visitor or agent
-- $3 text: the sender's name
-- $4 text: what is said
insert into public.chat_messages (session_id, sender_type, sender_name, body, client_id)
values ($1::text::uuid, $2::text, $3::text, $4::text, gen_random_uuid())
