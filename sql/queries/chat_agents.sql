-- Everybody who answers.
select coalesce(json_agg({answerer} order by a.{agent_name}), '[]')::text
from {agents} a
