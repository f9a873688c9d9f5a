//! What the chat takes for a message, and how much of a list it gives.

use serde_json::{Value, json};

use super::{Person, VERA, id, relay, support_database, with_id};

const SESSIONS: &str = "/chat/v1/sessions";

#[tokio::test]
async fn a_message_that_shows_nothing_is_empty() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[]).await;
    let vera = Person::new(&relay, VERA);
    vera.post(SESSIONS, &with_id(1, json!({})), 201);
    let messages = format!("{SESSIONS}/{}/messages", id(1));
    for body in [
        "\u{200B}",
        "",
        " \t\n",
        "\u{3000}",
        "\u{2800}\u{FE0F}",
        "\u{3164}",
        "\u{202E}\u{2066} \u{2069}",
    ] {
        let problem = vera.post(&messages, &json!({ "body": body }), 422);
        assert_eq!(problem["detail"], "The message is empty.", "{body:?}");
    }
    let (family, persian, arabic) = (
        "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}",
        "\u{0645}\u{06CC}\u{200C}\u{062E}\u{0648}\u{0627}\u{0647}\u{0645}",
        "\u{200F}\u{0645}\u{0631}\u{062D}\u{0628}\u{0627}",
    );
    for body in [family, persian, arabic, "\u{2764}\u{FE0F}", ".", "\u{200B}a"] {
        let stored = vera.post(&messages, &json!({ "body": body }), 201);
        assert_eq!(stored["body"], body);
    }
    assert_eq!(database.text("select count(*)::text from chat_messages").await, "6");
}

#[tokio::test]
async fn a_limit_is_from_1_to_200_wherever_there_is_one() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[]).await;
    let vera = Person::new(&relay, VERA);
    vera.post(SESSIONS, &with_id(1, json!({})), 201);
    let messages = format!("{SESSIONS}/{}/messages", id(1));
    for path in [SESSIONS, &messages] {
        for limit in ["1", "200"] {
            vera.get(&format!("{path}?limit={limit}"), 200);
        }
        for limit in ["0", "201", "99999", "4294967296", "-1", "1.5", "", "x", "%2B5", "1e2"] {
            let problem = vera.get(&format!("{path}?limit={limit}"), 422);
            assert_eq!(problem["detail"], "`limit` is a number from 1 to 200.", "{path} {limit}");
        }
    }
    let description = vera.get("/chat/v1/openapi.json", 200);
    let mut found = 0;
    each_limit(&description, &mut |schema| {
        found += 1;
        assert_eq!((&schema["minimum"], &schema["maximum"]), (&json!(1), &json!(200)));
    });
    assert_eq!(found, 2);
}

/// Shows the schema of every parameter `limit` of a description.
pub(super) fn each_limit(description: &Value, show: &mut dyn FnMut(&Value)) {
    if description["name"] == "limit" && description["in"] == "query" {
        show(&description["schema"]);
    }
    match description {
        Value::Array(items) => items.iter().for_each(|item| each_limit(item, show)),
        Value::Object(members) => members.values().for_each(|member| each_limit(member, show)),
        _ => {}
    }
}
