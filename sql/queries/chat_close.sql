-- A chat is closed.
-- $1 the session, or its visitor
-- $2 the word for closed
-- $3 who closes it, where that is noted
update {sessions} s
set {changes}
where {which} = $1 and s.{session_status} <> $2
