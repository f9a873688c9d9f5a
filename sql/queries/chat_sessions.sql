-- Sessions, those with the newest messages first.
-- $1 how many at most
-- $2 the status, or what it is not
-- $3 only those after this one
select coalesce(json_agg(page.session order by page.at desc, page.id desc), '[]')::text
from (
  select {session} as session, s.{session_at} as at, s.{session_id} as id
  from {sessions} s
  where {which}
  order by s.{session_at} desc, s.{session_id} desc
  limit $1
) page
