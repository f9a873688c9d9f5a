-- Somebody has read what the other side wrote.
-- $1 text: the session's id
-- $2 text: who wrote it, visitor or agent
update public.chat_messages
set read_at = now()
where session_id = $1::text::uuid
  and sender_type = $2::text
  and read_at is null
