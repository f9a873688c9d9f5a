-- What is attacked: rows of one user, which the canary waits for, and a table that anybody may read and ask for by filters.
create table canary (id bigint primary key, owner uuid not null);
alter table canary enable row level security;
create policy own on canary for select to authenticated using (owner = auth.uid());

create table notes (id bigint generated always as identity primary key, body text not null);
alter table notes enable row level security;
create policy everybody on notes for select to anon, authenticated using (true);

grant select on canary, notes to anon, authenticated;
alter publication supabase_realtime add table canary, notes;
