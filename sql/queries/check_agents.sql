-- Whether there is a table of agents.
select to_regclass('public.support_agents') is not null as is_there
