-- A visitor rates a chat.
-- $1 the session
-- $2 the rating
-- $3 why
update {sessions} s
set {changes}
where s.{session_id} = $1
