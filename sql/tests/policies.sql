-- Who may read and write what, in the tables ENABLE creates: two visitors, an agent, a dismissed agent, nobody, and the back end.
\set VERBOSITY terse
\set SHOW_CONTEXT never
\pset footer off
\o /dev/null
\i sql/SUPABASE_COMPAT.sql
\i sql/ENABLE_REALTIME_CHAT.sql
\o

-- Becomes a caller, as the relay and PostgREST do.
create procedure public.be(who text, uid text default null) language plpgsql as $$
begin
  perform set_config('role', who, false);
  perform set_config('request.jwt.claims', case when uid is null then '' else
    jsonb_build_object('sub', format('00000000-0000-4000-8000-%s', lpad(uid, 12, '0')), 'role', who)::text end, false);
end
$$;
grant usage on schema public to anon, authenticated, service_role;

insert into support_agents (id, user_id, display_name, is_active) values
  ('00000000-0000-4000-8000-0000000000f1', '00000000-0000-4000-8000-0000000000a1', 'Ann', true),
  ('00000000-0000-4000-8000-0000000000f2', '00000000-0000-4000-8000-0000000000a2', 'Bob, who left', false);

\echo '# visitor 1 opens a session and writes'
call be('authenticated', '1');
insert into live_chat_sessions (id, visitor_name, subject)
  values ('00000000-0000-4000-8000-0000000000c1', 'Vera', 'refund') returning visitor_id, status, assigned_agent_id;
insert into chat_messages (session_id, sender_type, body, client_id)
  values ('00000000-0000-4000-8000-0000000000c1', 'visitor', 'hello', '00000000-0000-4000-8000-0000000000d1')
  returning sender_id, body, read_at;
\echo '# the same message again is stored once'
insert into chat_messages (session_id, sender_type, body, client_id)
  values ('00000000-0000-4000-8000-0000000000c1', 'visitor', 'hello', '00000000-0000-4000-8000-0000000000d1')
  on conflict (session_id, client_id) do nothing;
select count(*) from chat_messages;

\echo '# visitor 1 may not open a session for another, skip the queue, set times, or write as somebody else'
insert into live_chat_sessions (visitor_id) values ('00000000-0000-4000-8000-000000000002');
insert into live_chat_sessions (status) values ('active');
insert into live_chat_sessions (created_at) values (now());
insert into chat_messages (session_id, sender_type, body) values ('00000000-0000-4000-8000-0000000000c1', 'agent', 'x');
insert into chat_messages (session_id, sender_type, body) values ('00000000-0000-4000-8000-0000000000c1', 'system', 'x');
insert into chat_messages (session_id, sender_type, sender_id, body)
  values ('00000000-0000-4000-8000-0000000000c1', 'visitor', '00000000-0000-4000-8000-000000000002', 'x');

\echo '# visitor 2 has a session too, sees only that, and reaches nothing of visitor 1'
call be('authenticated', '2');
insert into live_chat_sessions (id, visitor_name) values ('00000000-0000-4000-8000-0000000000c2', 'Vito');
select visitor_name from live_chat_sessions;
select count(*) from chat_messages;
insert into chat_messages (session_id, sender_type, body) values ('00000000-0000-4000-8000-0000000000c1', 'visitor', 'x');
update live_chat_sessions set status = 'closed' where id = '00000000-0000-4000-8000-0000000000c1' returning id;
update chat_messages set read_at = now() returning id;
select count(*) from support_agents;

\echo '# nobody: no table may even be asked'
call be('anon');
select count(*) from live_chat_sessions;
select count(*) from chat_messages;
select count(*) from support_agents;
insert into live_chat_sessions (visitor_id) values ('00000000-0000-4000-8000-000000000002');

\echo '# a dismissed agent is a visitor without sessions'
reset role;
call be('authenticated', 'a2');
select (select count(*) from live_chat_sessions) as sessions, (select count(*) from chat_messages) as messages,
  (select count(*) from support_agents) as agents;

\echo '# the agent sees all, writes as agent, and by writing takes the waiting session'
call be('authenticated', 'a1');
select visitor_name, status from live_chat_sessions order by 1;
insert into chat_messages (session_id, sender_type, sender_name, body)
  values ('00000000-0000-4000-8000-0000000000c1', 'agent', 'Ann', 'how may I help?') returning sender_id;
select s.visitor_name, s.status, a.display_name as agent, s.last_message_at >= s.created_at as moved
from live_chat_sessions s left join support_agents a on a.id = s.assigned_agent_id order by 1;
insert into chat_messages (session_id, sender_type, body) values ('00000000-0000-4000-8000-0000000000c1', 'visitor', 'x');
update chat_messages set read_at = now() where sender_type = 'visitor' returning body;
update chat_messages set body = 'something else';
update live_chat_sessions set rating = 5;
delete from chat_messages;
delete from live_chat_sessions;
insert into support_agents (user_id, display_name) values (gen_random_uuid(), 'my friend');

\echo '# visitor 1 reads the answer, marks it read, may not edit it, may not assign or reopen, may close and rate'
call be('authenticated', '1');
select sender_type, body from chat_messages order by created_at;
update chat_messages set read_at = now() returning body;
update chat_messages set body = 'something else';
update live_chat_sessions set assigned_agent_id = null;
update live_chat_sessions set status = 'waiting';
update live_chat_sessions set visitor_id = '00000000-0000-4000-8000-000000000002';
update live_chat_sessions set status = 'closed', rating = 5, feedback = 'thanks' returning status, rating, closed_at is not null as closed;
update live_chat_sessions set rating = 6;
insert into chat_messages (session_id, sender_type, body) values ('00000000-0000-4000-8000-0000000000c1', 'visitor', 'one more');

\echo '# the agent may open it again; what was closed is not closed at a time'
call be('authenticated', 'a1');
update live_chat_sessions set status = 'active' where id = '00000000-0000-4000-8000-0000000000c1' returning status, closed_at, rating;

\echo '# the back end may do all'
reset role;
call be('service_role');
insert into chat_messages (session_id, sender_type, body) values ('00000000-0000-4000-8000-0000000000c2', 'system', 'we are closed');
update live_chat_sessions set rating = 1 where id = '00000000-0000-4000-8000-0000000000c2' returning rating;
delete from live_chat_sessions where id = '00000000-0000-4000-8000-0000000000c1';
select sender_type, body from chat_messages;

\echo '# what the texts may hold'
insert into chat_messages (session_id, sender_type, body) values ('00000000-0000-4000-8000-0000000000c2', 'system', '');
insert into chat_messages (session_id, sender_type, body) values ('00000000-0000-4000-8000-0000000000c2', 'system', repeat('x', 10001));
insert into live_chat_sessions (visitor_id, status) values (gen_random_uuid(), 'lost');
insert into live_chat_sessions (visitor_id, rating) values (gen_random_uuid(), 0);
