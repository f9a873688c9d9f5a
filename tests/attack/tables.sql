-- What is attacked: rows of one user, who is subscribed to them, and a table that anybody may read and ask for by filters.
create table messages (id bigint primary key, owner uuid not null);
alter table messages enable row level security;
create policy own on messages for select to authenticated using (owner = auth.uid());

create table notes (id bigint generated always as identity primary key, body text not null);
alter table notes enable row level security;
create policy everybody on notes for select to anon, authenticated using (true);

grant select on messages, notes to anon, authenticated;
alter publication supabase_realtime add table messages, notes;
