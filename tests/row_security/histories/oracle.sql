-- What a select shows: asked of Postgres itself, in a state that is made and undone.
create schema oracle;

-- Acts as somebody for the rest of the subtransaction.
create function oracle.become(who jsonb) returns void language plpgsql as $$
declare
  setting record;
begin
  for setting in select * from jsonb_each_text(who -> 'settings') loop
    perform set_config(setting.key, setting.value, true);
  end loop;
  perform set_config('request.jwt.claims', who ->> 'claims', true);
  perform set_config('request.jwt.claim.sub', who ->> 'sub', true);
  perform set_config('request.jwt.claim.role', who ->> 'role', true);
  perform set_config('role', who ->> 'role', true);
end $$;

-- Runs a query that answers one text as somebody; what it raises is answered as its SQLSTATE behind a '!'.
create function oracle.ask(who jsonb, query text) returns text language plpgsql as $$
declare
  answer text;
begin
  perform oracle.become(who);
  execute query into answer;
  raise exception using errcode = 'RLAY1';
exception
  when sqlstate 'RLAY1' then return answer;
  when others then return '!' || sqlstate;
end $$;

-- What somebody may do with a table.
create function oracle.rights(who jsonb, place oid) returns jsonb language plpgsql as $$
declare
  query text;
begin
  query := format($q$
    select pg_catalog.jsonb_build_object(
      'columns', (
        select pg_catalog.array_agg(a.attname) from pg_catalog.pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select')),
      'usage', pg_catalog.has_schema_privilege(c.relnamespace, 'usage'),
      'bound', pg_catalog.row_security_active(c.oid),
      'guarded', c.relrowsecurity,
      'policies', (
        select pg_catalog.array_agg(p.polname order by p.polname) from pg_catalog.pg_policy as p
        where p.polrelid = c.oid and p.polcmd in ('r', '*') and p.polqual is not null
          and exists (
            select from pg_catalog.unnest(p.polroles) as r (oid)
            where r.oid = 0 or pg_catalog.pg_has_role(r.oid, 'usage'))),
      'open', exists (
        select from pg_catalog.pg_policy as p
        where p.polrelid = c.oid and p.polcmd in ('r', '*') and p.polqual is not null and p.polpermissive
          and exists (
            select from pg_catalog.unnest(p.polroles) as r (oid)
            where r.oid = 0 or pg_catalog.pg_has_role(r.oid, 'usage')))
    )::text
    from pg_catalog.pg_class as c where c.oid = %s $q$, place);
  return oracle.ask(who, query)::jsonb;
end $$;

-- {"views": [table], "versions": [{"before": sql, "probe": sql}], "principals": [who]} ->
-- {"rights": [view][principal], "verdicts": [version][view][principal]}. {view} in a probe is the table.
create function oracle.judge(asked jsonb) returns jsonb language plpgsql as $$
declare
  rights jsonb := '[]';
  verdicts jsonb := '[]';
  of_version jsonb;
  of_view jsonb;
  place text;
  who jsonb;
  version jsonb;
begin
  for place in select value #>> '{}' from jsonb_array_elements(asked -> 'views') loop
    of_view := '[]';
    for who in select value from jsonb_array_elements(asked -> 'principals') loop
      of_view := of_view || jsonb_build_array(oracle.rights(who, place::regclass));
    end loop;
    rights := rights || jsonb_build_array(of_view);
  end loop;
  for version in select value from jsonb_array_elements(asked -> 'versions') loop
    of_version := '[]';
    begin
      execute version ->> 'before';
      for place in select value #>> '{}' from jsonb_array_elements(asked -> 'views') loop
        of_view := '[]';
        for who in select value from jsonb_array_elements(asked -> 'principals') loop
          of_view := of_view || to_jsonb(oracle.ask(who, replace(version ->> 'probe', '{view}', place)));
        end loop;
        of_version := of_version || jsonb_build_array(of_view);
      end loop;
      raise exception using errcode = 'RLAY2';
    exception when sqlstate 'RLAY2' then null;
    end;
    verdicts := verdicts || jsonb_build_array(of_version);
  end loop;
  return jsonb_build_object('rights', rights, 'verdicts', verdicts);
end $$;
