-- How many agents there are, as far as the current role can see, and whether policies decide what it sees.
select
    count(*) as agents,
    pg_catalog.row_security_active('public.support_agents') as is_filtered
from public.support_agents
