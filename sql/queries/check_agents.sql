-- Whether there is a table of agents, and whether this role may read it.
select to_regclass('public.support_agents') is not null as is_there
