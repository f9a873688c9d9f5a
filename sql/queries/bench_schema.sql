-- The table a bench writes to, and the procedure that writes many single-row transactions at once.
create table public.bench_rows (
  id bigint primary key,
  owner uuid not null,
  room int not null,
  body text not null
);
alter table public.bench_rows replica identity full;
grant select on public.bench_rows to authenticated;
create publication supabase_realtime for table public.bench_rows;

-- Rows "first" to "last", each in a transaction of its own, spread evenly over the rooms.
create procedure public.bench_fill(first bigint, last bigint, owner uuid, rooms int)
language plpgsql
as $procedure$
begin
  for id in first..last loop
    insert into public.bench_rows values (id, owner, id % rooms, repeat('x', 120));
    commit;
  end loop;
end
$procedure$;
