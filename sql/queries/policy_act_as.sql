-- Who asks about which topic, for this transaction only, under the settings of the role.
-- setting   acting_settings.sql of the role; what only a superuser may set is left out
-- $1 text  role
-- $2 text  all claims, as one JSON object
-- $3 text  the claim sub, empty when there is none
-- $4 text  topic
-- $5 text  request headers, as one JSON object
select
    (
        select count(set_config(setting.name, setting.value, true))
        from setting
        left join pg_catalog.pg_settings as known on known.name = setting.name
        where known.context = 'user' or (known.name is null and setting.name like '%.%')
    ),
    set_config('role', $1, true),
    set_config('request.jwt.claims', $2, true),
    set_config('request.jwt.claim.sub', $3, true),
    set_config('request.jwt.claim.role', $1, true),
    set_config('realtime.topic', $4, true),
    set_config('request.headers', $5, true)
