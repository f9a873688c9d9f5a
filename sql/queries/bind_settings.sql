-- A text that changes with what `alter database` and `alter role` set.
select coalesce(
    string_agg(
        format('%s/%s/%s', s.setdatabase, s.setrole, s.xmin), ' ' order by s.setdatabase, s.setrole),
    '') as settings
from pg_db_role_setting as s;
