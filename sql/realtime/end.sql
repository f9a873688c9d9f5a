perform set_config('client_min_messages', own_messages, true);
perform set_config('lock_timeout', own_lock_timeout, true);
end
$migrate$;
