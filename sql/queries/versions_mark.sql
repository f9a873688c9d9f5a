-- Versions as one number, which changes when any of them does.
-- {versions}  one of the versions_*.sql
select pg_catalog.bit_xor(pg_catalog.hashtextextended(v.version, v.place))
from ({versions}) as v
