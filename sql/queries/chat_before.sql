and (m.{message_at}, m.{message_id}) < (select b.{message_at}, b.{message_id} from {messages} b where b.{message_id} = $3)
