-- How many agents there are, as far as the current role can see.
select count(*) as agents from public.support_agents
