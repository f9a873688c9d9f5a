-- A session, whether the caller has it, and whether the caller could have any.
-- $1 the session
-- $2 text  the caller's sub
select
  {session}::text,
  coalesce(s.{session_agent} in (select a.{agent_id} from {agents} a where a.{agent_user}::text = $2), false),
  exists (select from {agents} a where a.{agent_user}::text = $2)
from {sessions} s
where s.{session_id} = $1
