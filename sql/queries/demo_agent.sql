-- Makes a user an agent, or gives an agent another name.
-- $1 text: the user
-- $2 text: the name shown to visitors
insert into public.support_agents (user_id, display_name)
values ($1::text::uuid, $2::text)
on conflict (user_id) do update set display_name = excluded.display_name
