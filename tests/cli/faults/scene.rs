//! What every fault is planted into, and what is observed of it.

use std::collections::BTreeMap;

use crate::support::{Cluster, Database};

/// A table of orders that its owners read, one of secrets that nobody may, and what observes both.
const SCENE: &str = "
create table orders (id int primary key, owner uuid, body text);
alter table orders enable row level security, replica identity full;
create policy own on orders for select to authenticated using (owner = (select auth.uid()));
insert into orders values (1, '11111111-1111-4111-8111-111111111111', 'mine'), (2, null, 'nobody''s');
create table secrets (id int primary key, hash text);
revoke all on secrets from anon, authenticated, service_role;
insert into secrets values (1, 'hash');
alter publication supabase_realtime add table orders;

create schema observer;

-- What each role reads of each table: a number of rows, or the SQLSTATE of the refusal.
create function observer.readable() returns table (who text, what text, seen text) language plpgsql as $$
declare
  relation record;
begin
  for relation in
    select c.oid::regclass::text as name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm') and n.nspname not in ('information_schema', 'observer') and n.nspname !~ '^pg_'
  loop
    foreach who in array array['anon', 'authenticated', 'service_role'] loop
      what := relation.name;
      begin
        perform set_config('role', who, true);
        perform set_config('request.jwt.claims', '{\"sub\": \"11111111-1111-4111-8111-111111111111\"}', true);
        execute format('select count(*)::text from %s', relation.name) into seen;
      exception when others then
        seen := sqlstate;
      end;
      perform set_config('role', 'none', true);
      return next;
    end loop;
  end loop;
end
$$;

-- Inserts, updates and deletes in every published table, rolled back; raises what Postgres refuses.
create function observer.write() returns void language plpgsql as $$
declare
  relation record;
begin
  for relation in
    select c.oid::regclass::text as name, string_agg(quote_ident(a.attname), ', ') as columns, min(quote_ident(a.attname)) as one
    from (
      select t.oid from pg_publication p join pg_publication_rel r on r.prpubid = p.oid join pg_class t on t.oid = r.prrelid
      union
      select k.oid
      from pg_publication_tables t
      join pg_namespace n on n.nspname = t.schemaname
      join pg_class k on k.relnamespace = n.oid and k.relname = t.tablename
      where t.pubname = 'supabase_realtime'
    ) published
    join pg_class c on c.oid = published.oid
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    group by c.oid
  loop
    begin
      execute format('insert into %s (%s) select %2$s from %1$s where false', relation.name, relation.columns);
      execute format('update %s set %s = %2$s', relation.name, relation.one);
      execute format('delete from %s', relation.name);
      raise exception using errcode = 'ZZ000';
    exception when sqlstate 'ZZ000' then
      null;
    end;
  end loop;
end
$$;
";

/// A database with the scene in it.
pub(super) async fn set(cluster: &Cluster) -> Database {
    let database = cluster.database().await.with_roles().await;
    database.execute(SCENE).await;
    database
}

/// What each role reads of each table.
pub(super) async fn readable(database: &Database) -> BTreeMap<(String, String), String> {
    let rows = database.query("select who, what, seen from observer.readable()").await;
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

/// Why a published table cannot be written.
pub(super) async fn write(database: &Database) -> Result<(), String> {
    let written = database.client().batch_execute("select observer.write()").await;
    written.map_err(|error| {
        error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
    })
}
