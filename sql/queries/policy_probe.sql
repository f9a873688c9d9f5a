-- Puts a message per extension into a topic, and notes their ids for whoever reads in this transaction.
-- $1 text    topic
-- $2 text[]  extensions
with probes as materialized (
    select id::text as id, extension from realtime.probe($1, $2)
),
noted as materialized (
    select set_config('relay.probes', string_agg(id, ','), true) from probes
)
select probes.id, probes.extension from probes, noted
