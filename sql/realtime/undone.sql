-- What is so now.

select u.what,
  case when u.is_there then 'there: relay migrate did not make it, or made it before it said so in a comment' else 'not there' end
    as "is now"
from (
  select 1 as place, 'schema realtime' as what, to_regnamespace('realtime') is not null as is_there
  union all
  select 2, 'table realtime.messages', to_regclass('realtime.messages') is not null
  union all
  select 3, 'its publication',
    exists (select from pg_publication p where p.pubname = 'supabase_realtime_messages_publication')
  union all
  select 4, format('function realtime.%s', p.proname), true
  from pg_proc p
  where p.pronamespace = to_regnamespace('realtime')
) u
order by u.place, u.what;
