-- The rows of a fingerprint_*.sql as one number, which changes when any of their versions does.
-- {versions}  a query for rows of (kind, entry, version): what is versioned, which one of that, and its version
select pg_catalog.bit_xor(pg_catalog.hashtextextended(v.version, v.entry))
from ({versions}) as v
