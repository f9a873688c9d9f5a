-- The login role, and each role a token may name.
-- $1 text[]: the roles
-- $2 text: how the application_name begins under which a relay reads the slot
select
  jsonb_build_object(
    'name', me.rolname,
    'is_super', me.rolsuper,
    'may_replicate', me.rolsuper or me.rolreplication or exists (
      select from pg_roles managed
      -- Amazon's service grants replication through a role, not an attribute.
      where managed.rolname = 'rds_replication' and pg_has_role(me.oid, managed.oid, 'member')
    ),
    'bypasses', me.rolbypassrls,
    'most_connections', nullif(me.rolconnlimit, -1),
    'connections', (select count(*) from pg_stat_activity a where a.usesysid = me.oid and a.pid <> pg_backend_pid()),
    'relays', (
      select count(*) from pg_stat_activity a where a.usesysid = me.oid and starts_with(a.application_name, $2)),
    'server_connections',
      current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
  ) as login,
  coalesce((
    select jsonb_agg(jsonb_build_object(
      'name', wanted.name,
      'exists', r.oid is not null,
      'is_super', coalesce(r.rolsuper, false),
      'bypasses', coalesce(r.rolbypassrls, false),
      -- Being a member was enough to set the role before PostgreSQL 16.
      'may_be_set', coalesce(me.rolsuper or pg_has_role(me.oid, r.oid,
        case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end), false)
    ) order by wanted.place)
    from unnest($1::text[]) with ordinality as wanted (name, place)
    left join pg_roles r on r.rolname = wanted.name
  ), '[]') as roles
from pg_roles me
-- Not the current user: the role may be set to become another one when it logs in.
where me.rolname = session_user
