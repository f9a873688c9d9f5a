-- The tables of the guest relations chat, each visitor's own.
create table gre_chat_sessions (
  id uuid primary key, player_id text not null, player_name text, status text not null,
  created_at timestamptz not null default now(), last_message_at timestamptz, closed_at timestamptz, closed_by text);
create table gre_chat_messages (
  id uuid primary key, session_id uuid not null references gre_chat_sessions, player_id text not null,
  message text not null, sender text not null, sender_name text,
  timestamp timestamptz not null default clock_timestamp());
alter table gre_chat_sessions enable row level security, replica identity full;
alter table gre_chat_messages enable row level security, replica identity full;
create policy own on gre_chat_sessions to authenticated using (player_id = auth.uid()::text);
create policy own on gre_chat_messages to authenticated using (player_id = auth.uid()::text);
grant select, insert, update on gre_chat_sessions, gre_chat_messages to authenticated;
alter publication supabase_realtime add table gre_chat_sessions, gre_chat_messages;
