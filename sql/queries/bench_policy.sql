-- Row level security on the claims: a token reads the rows of its user.
alter table public.bench_rows enable row level security;
create policy "owners read their rows" on public.bench_rows
  for select to authenticated
  using (owner = (select auth.uid()));
