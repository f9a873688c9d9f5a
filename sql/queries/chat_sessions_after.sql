(s.{session_at}, s.{session_id}) < (select b.{session_at}, b.{session_id} from {sessions} b where b.{session_id} = $3)
