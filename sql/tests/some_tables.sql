-- A database that has one or two of the tables: what ENABLE creates fits them, or it says why it cannot, and then changes nothing.
\i sql/tests/fixtures/with_compat.sql

\echo '# sessions with bigint keys and visitors named in text; agents keyed by their user'
create table public.support_agents (id uuid primary key, enabled boolean not null default true);
create table public.live_chat_sessions (id bigint primary key, customer_id text not null, state text not null);
insert into support_agents values ('00000000-0000-4000-8000-0000000000a1');
insert into live_chat_sessions values (1, '00000000-0000-4000-8000-000000000001', 'open'), (2, 'somebody else', 'open');
\i sql/ENABLE_REALTIME_CHAT.sql
grant select on public.live_chat_sessions to authenticated;

set role authenticated;
select set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-000000000001"}', false) as claims \gset
insert into chat_messages (session_id, sender_type, body) values (1, 'visitor', 'mine');
insert into chat_messages (session_id, sender_type, body) values (2, 'visitor', 'not mine');
select set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-0000000000a1"}', false) as claims \gset
insert into chat_messages (session_id, sender_type, body) values (2, 'agent', 'answer');
select session_id, sender_type, body from chat_messages order by created_at;
select set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-000000000001"}', false) as claims \gset
select session_id, sender_type, body from chat_messages order by created_at;
reset role;
update live_chat_sessions set state = 'closed';
set role authenticated;
insert into chat_messages (session_id, sender_type, body) values (1, 'visitor', 'late');
reset role;

\echo '# sessions that do not say whose they are'
drop table chat_messages, live_chat_sessions;
create table public.live_chat_sessions (id bigint primary key, topic text);
\i sql/ENABLE_REALTIME_CHAT.sql

\echo '# agents that do not say who they are'
drop table live_chat_sessions, support_agents;
drop function is_support_agent();
create table public.support_agents (id bigint primary key, name text);
\i sql/ENABLE_REALTIME_CHAT.sql

\echo '# a view where a table should be'
drop table support_agents;
create view public.chat_messages as select 1 as id;
\i sql/ENABLE_REALTIME_CHAT.sql
