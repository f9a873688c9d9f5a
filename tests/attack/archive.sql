-- A table without an index for what is asked of it.
create table archive (id bigint primary key, body text not null);
alter table archive enable row level security;
create policy everybody on archive for select to anon, authenticated using (true);
grant select on archive to anon, authenticated;
insert into archive select g, repeat('x', 100) || g from generate_series(1, 300000) as g;
analyze archive;
alter publication supabase_realtime add table archive;
