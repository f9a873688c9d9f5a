-- What the scenarios presume beside the chat tables: who may use which private topic, and a table that tells.
--
--   open:…      every user hears, speaks and is present
--   of:<user>   that user alone
--   hear:…      every user hears, nobody speaks
--   chat:<id>   who may read that session hears what happens to its messages

create policy "users hear" on realtime.messages for select to authenticated using (
  realtime.topic() like 'open:%'
  or realtime.topic() = 'of:' || auth.uid()
  or realtime.topic() like 'hear:%'
  or exists (select from public.live_chat_sessions s where realtime.topic() = 'chat:' || s.id));

create policy "users speak" on realtime.messages for insert to authenticated with check (
  realtime.topic() like 'open:%' or realtime.topic() = 'of:' || auth.uid());

create function public.tell_of_messages() returns trigger
language plpgsql
as $function$
begin
  perform realtime.broadcast_changes(
    'chat:' || coalesce(new.session_id, old.session_id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
  return null;
end
$function$;

create trigger tell_of_messages after insert or update or delete on public.chat_messages
  for each row execute function public.tell_of_messages();
