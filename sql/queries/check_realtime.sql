-- Schema realtime, as far as the relay needs it; no row when there is none.
-- $1 text[]: the functions `relay migrate` makes, as name(types)
-- $2 text[]: their bodies
-- $3 text[]: those the relay calls
-- $4 text[]: the roles a token may name
select to_jsonb(found) as realtime
from (
  select
    m.oid is not null as has_messages,
    coalesce(m.relrowsecurity, false) as has_row_security,
    coalesce(p.is_published, false) as is_published,
    coalesce(days.has_today, false) as has_today,
    functions.missing,
    functions.outdated,
    has_schema_privilege(n.oid, 'usage') as may_use,
    functions.forbidden,
    coalesce((
      select jsonb_agg(r.rolname order by r.rolname)
      from pg_roles r
      where r.rolname = any ($4::text[])
        and not (
          has_schema_privilege(r.oid, n.oid, 'usage')
          and (m.oid is null or has_table_privilege(r.oid, m.oid, 'select') and has_table_privilege(r.oid, m.oid, 'insert')))
    ), '[]') as kept_out,
    -- What a role that is kept out could read in the schema besides, if it were let in.
    coalesce((
      select jsonb_agg(distinct o.relname order by o.relname)
      from pg_roles r
      join pg_class o on o.relnamespace = n.oid and o.relkind in ('r', 'p', 'v', 'm', 'f') and o.oid is distinct from m.oid
      where r.rolname = any ($4::text[]) and not has_schema_privilege(r.oid, n.oid, 'usage')
        and (has_table_privilege(r.oid, o.oid, 'select') or has_any_column_privilege(r.oid, o.oid, 'select'))
    ), '[]') as opens
  from pg_namespace n
  left join pg_class m on m.relnamespace = n.oid and m.relname = 'messages' and m.relkind = 'p'
  left join lateral (
    select true as is_published
    from pg_publication p
    where p.pubname = 'supabase_realtime_messages_publication' and p.pubinsert
      and (p.puballtables or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = m.oid))
  ) p on true
  left join lateral (
    -- FOR VALUES FROM ('2026-01-01 00:00:00') TO ('2026-01-02 00:00:00'); MINVALUE and MAXVALUE have no quotes.
    select bool_or(
      bound.text = 'DEFAULT'
      or timezone('utc', now()) >= coalesce(substring(bound.text from 'FROM \(''([^'']+)''\)')::timestamp, '-infinity')
        and timezone('utc', now()) < coalesce(substring(bound.text from 'TO \(''([^'']+)''\)')::timestamp, 'infinity')
    ) as has_today
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    cross join lateral (select pg_get_expr(c.relpartbound, c.oid) as text) bound
    where i.inhparent = m.oid
  ) days on true
  cross join lateral (
    select
      coalesce(jsonb_agg(wanted.name order by wanted.name) filter (where f.oid is null), '[]') as missing,
      coalesce(jsonb_agg(wanted.name order by wanted.name) filter (
        where f.prosrc <> wanted.body and obj_description(f.oid, 'pg_proc') like 'relay: %'), '[]') as outdated,
      coalesce(jsonb_agg(wanted.name order by wanted.name) filter (
        where wanted.name = any ($3::text[]) and not has_function_privilege(f.oid, 'execute')), '[]') as forbidden
    from unnest($1::text[], $2::text[]) as wanted (name, body)
    left join pg_proc f on f.pronamespace = n.oid
      and f.proname || '(' || oidvectortypes(f.proargtypes) || ')' = wanted.name
  ) functions
  where n.nspname = 'realtime'
) found
