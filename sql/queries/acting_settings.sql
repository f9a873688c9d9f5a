-- What a role's own sessions in this database would begin with: settings of everybody, of the database, of the role, and
-- of the role in the database, the most specific one of each name.
-- Left out is what stays as the relay and the database have it: limits of time, what keeps a connection from writing and
-- from skipping policies, plans, how statements and messages are read, and how values of the log are read back.
-- $1 text  role
select distinct on (setting.name)
    setting.name,
    setting.value
from pg_catalog.pg_db_role_setting as s
cross join lateral (
    select
        pg_catalog.lower(pg_catalog.split_part(entry.text, '=', 1)) as name,
        pg_catalog.substr(entry.text, pg_catalog.strpos(entry.text, '=') + 1) as value
    from pg_catalog.unnest(s.setconfig) as entry (text)
) as setting
where s.setdatabase in (0, (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database()))
  and s.setrole in (0, (select r.oid from pg_catalog.pg_roles as r where r.rolname = $1))
  and setting.name <> all (array[
    'application_name', 'array_nulls', 'client_encoding', 'client_min_messages', 'default_transaction_deferrable',
    'default_transaction_isolation', 'default_transaction_read_only', 'idle_in_transaction_session_timeout',
    'idle_session_timeout', 'jit', 'lc_monetary', 'lock_timeout', 'plan_cache_mode', 'quote_all_identifiers', 'role', 'row_security',
    'session_authorization', 'standard_conforming_strings', 'statement_timeout', 'transaction_timeout', 'xmloption'])
order by setting.name, s.setrole <> 0 desc, s.setdatabase <> 0 desc
