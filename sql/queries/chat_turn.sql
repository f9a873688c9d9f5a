-- One after the other, so that two first messages of one visitor open one chat.
-- $1 text  the visitor
select pg_advisory_xact_lock(hashtextextended('relay chat ' || $1::text, 0))
