-- Who asks, for this transaction only. Every name that policies are known to read is set every time, so that no
-- connection remembers, or lacks, what another one does not.
-- $1 text  all claims, as one JSON object
-- $2 text  the claim sub, empty when there is none
-- $3 text  the role
select
    pg_catalog.set_config('request.jwt.claims', $1, true),
    pg_catalog.set_config('request.jwt.claim.sub', $2, true),
    pg_catalog.set_config('request.jwt.claim.role', $3, true);
