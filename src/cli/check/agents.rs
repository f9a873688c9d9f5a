//! Whether anybody is an agent: with an empty table of agents no agent sees a chat.

use super::fact::Facts;
use crate::postgres::Sql;

/// The fact, where there is such a table. The check counts as `service_role`, in a transaction that is rolled back; what row
/// security hides from that role does not count as absent.
pub(super) async fn judge(sql: &Sql, facts: &mut Facts) {
    let text = include_str!("../../../sql/queries/check_agents.sql");
    let is_there = sql.client.query_one(text, &[]).await;
    if !is_there.is_ok_and(|row| row.get("is_there")) {
        return;
    }
    let counted = count(sql).await;
    // Whatever happened, the connection is to be usable again; if it is not, the next query says so.
    let _ = sql.client.batch_execute("rollback").await;
    match counted {
        Ok((0, false)) => {
            facts
                .odd("agents", "public.support_agents is empty: nobody is an agent, so nobody sees the chats of others")
                .also("insert into public.support_agents (user_id, display_name) values ('<the sub of the agent''s token>', '<name>')");
        }
        Ok((0, true)) => {
            facts.odd("agents", "row level security hides public.support_agents from service_role, so it is not known whether there are any");
        }
        Ok((agents, _)) => facts.good("agents", format!("{agents} in public.support_agents")),
        Err(_) => {
            facts.odd("agents", "public.support_agents cannot be read as service_role, so it is not known whether there are any");
        }
    }
}

/// How many agents `service_role` sees, and whether row security decides what it sees. A transaction is left open.
async fn count(sql: &Sql) -> Result<(i64, bool), tokio_postgres::Error> {
    sql.client.batch_execute("begin read only; set local role service_role").await?;
    let text = include_str!("../../../sql/queries/check_agent_count.sql");
    let row = sql.client.query_one(text, &[]).await?;
    Ok((row.get("agents"), row.get("is_filtered")))
}
