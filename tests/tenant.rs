//! What tools of self-hosted installations ask: how the relay fares, and that clients connect again.

use serde_json::{Value, json};

use crate::support::relay::{Answer, SECRET, now, token};
use crate::support::{Client, Cluster, Relay, until};

const API_SECRET: &str = "another-secret-of-at-least-thirty-two-bytes";
const PREFIXES: [&str; 2] = ["/api", "/realtime/v1/api"];

fn signed(secret: &str, claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

fn ask(relay: &Relay, method: &str, path: &str, token: &str) -> Answer {
    relay.request(method, path, &[("authorization", &format!("Bearer {token}"))], b"")
}

fn data(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str::<Value>(&answer.body).unwrap()["data"].take()
}

#[tokio::test]
async fn whether_it_lives_is_told_to_everybody() {
    let relay = Relay::start(&Cluster::shared().database().await.with_roles().await).await;
    assert_eq!(relay.get("/healthcheck"), (200, "ok".to_owned()));
    for prefix in PREFIXES {
        let ping = relay.get(&format!("{prefix}/ping"));
        assert_eq!(ping, (200, r#"{"message":"Success"}"#.to_owned()));
        let (status, text) = relay.get(&format!("{prefix}/openapi"));
        let described: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 200);
        // What is described is there.
        for (path, methods) in described["paths"].as_object().unwrap() {
            let path = path.replace("/api", prefix).replace(['{', '}'], "");
            for method in methods.as_object().unwrap().keys() {
                let answer = relay.request(&method.to_uppercase(), &path, &[], b"");
                assert!(![404, 405].contains(&answer.status), "{method} {path}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn how_it_fares_is_told_to_those_it_believes() {
    let database = Cluster::shared().database().await.with_roles().await;
    let relay = Relay::start(&database).await;
    let anon = token("anon", &json!({}));
    let _client = Client::connect(&relay, &anon).await;
    for prefix in PREFIXES {
        let path = format!("{prefix}/tenants/realtime-dev/health");
        let health = data(&ask(&relay, "GET", &path, &anon));
        let expected = json!({
            "healthy": true, "db_connected": true, "replication_connected": true,
            "connected_cluster": 1, "region": null, "node": format!("relay@127.0.0.1:{}", relay.port()),
        });
        assert_eq!(health, expected);
        // As the compose file of Supabase asks.
        let head = ask(&relay, "HEAD", &path, &anon);
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        let expired = signed(SECRET, &json!({ "role": "anon", "exp": now() - 1 }));
        let stranger = signed(API_SECRET, &json!({ "role": "anon", "exp": now() + 60 }));
        for wrong in ["", "x", &expired, &stranger] {
            for (method, path) in [
                ("GET", format!("{prefix}/tenants")),
                ("GET", format!("{prefix}/tenants/a")),
                ("GET", path.clone()),
                ("POST", format!("{prefix}/tenants/a/reload")),
                ("POST", format!("{prefix}/tenants")),
            ] {
                let answer = ask(&relay, method, &path, wrong);
                assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{method} {path}");
            }
        }
        let answer = relay.request("GET", &path, &[("apikey", &anon)], b"");
        assert_eq!(answer.status, 403, "only Authorization counts");
        let shown = data(&ask(&relay, "GET", &format!("{prefix}/tenants/realtime-dev"), &anon));
        assert_eq!(
            (&shown["external_id"], &shown["name"]),
            (&json!("realtime-dev"), &json!(database.name))
        );
        assert_eq!(shown["max_concurrent_users"], 20_000);
        let listed = data(&ask(&relay, "GET", &format!("{prefix}/tenants"), &anon));
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert!(!format!("{shown}{listed}").contains(SECRET));
    }
    let log = relay.log_text();
    assert!(!log.contains(&anon), "{log}");
}

#[tokio::test]
async fn a_relay_without_its_database_says_which_half_is_missing() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await.with_roles().await;
    let relay = Relay::start(&database).await;
    let anon = token("anon", &json!({}));
    let health = || data(&ask(&relay, "GET", "/api/tenants/a/health", &anon));
    database.execute("drop publication supabase_realtime").await;
    database.query("select count(pg_terminate_backend(pid)) from pg_stat_replication").await;
    until("the stream to be gone", || {
        std::future::ready((health()["healthy"] == false).then_some(()))
    })
    .await;
    let halves =
        |health: &Value| (health["db_connected"].clone(), health["replication_connected"].clone());
    assert_eq!(halves(&health()), (json!(true), json!(false)));
    cluster.stop("immediate");
    until("the database to be gone", || {
        std::future::ready((health()["db_connected"] == false).then_some(()))
    })
    .await;
    assert_eq!(health()["healthy"], false);
}

#[tokio::test]
async fn clients_connect_again_when_somebody_who_may_asks_for_it() {
    let relay = Relay::start(&Cluster::shared().database().await.with_roles().await).await;
    let anon = token("anon", &json!({}));
    let mut clients = Vec::new();
    for version in ["2.0.0", "1.0.0"] {
        let mut client = Client::connect_as(&relay, &anon, version).await;
        assert_eq!(client.join("room", json!({ "config": {} })).await["status"], "ok");
        clients.push(client);
    }
    let path = "/realtime/v1/api/tenants/realtime-dev/reload";
    assert_eq!(ask(&relay, "POST", path, &anon).status, 403);
    assert_eq!(clients[0].flush().await.len(), 0);
    let service = token("service_role", &json!({}));
    let answer = ask(&relay, "POST", path, &service);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    for client in &mut clients {
        assert_eq!(client.closed().await, Some(1012));
    }
    let mut again = Client::connect(&relay, &anon).await;
    assert_eq!(again.join("room", json!({ "config": {} })).await["status"], "ok");
    assert_eq!(again.flush().await.len(), 0);
}

#[tokio::test]
async fn what_one_database_has_no_use_for_is_answered_with_what_to_do() {
    let relay = Relay::start(&Cluster::shared().database().await.with_roles().await).await;
    let service = token("service_role", &json!({}));
    for (method, path, words) in [
        ("POST", "/api/tenants", "one database"),
        ("PUT", "/api/tenants/a", "relay.toml"),
        ("PATCH", "/api/tenants/a", "relay.toml"),
        ("DELETE", "/api/tenants/a", "relay.toml"),
        ("POST", "/api/tenants/a/shutdown", "SIGTERM"),
    ] {
        let answer = ask(&relay, method, path, &service);
        assert_eq!(answer.status, 501, "{method} {path}");
        let message: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(message["message"].as_str().unwrap().contains(words), "{answer:?}");
        assert_eq!(ask(&relay, method, path, &token("anon", &json!({}))).status, 403);
    }
}

#[tokio::test]
async fn a_secret_of_its_own_shuts_out_the_tokens_of_clients() {
    let database = Cluster::shared().database().await.with_roles().await;
    let relay = Relay::start_with(&database, &[("RELAY_AUTH__API_SECRET", API_SECRET)]).await;
    let own = signed(API_SECRET, &json!({ "exp": now() + 60 }));
    let late = signed(API_SECRET, &json!({ "exp": now() - 1 }));
    for (token, status) in [
        (token("anon", &json!({})), 403),
        (token("service_role", &json!({})), 403),
        (late, 403),
        (signed(API_SECRET, &json!({})), 403),
        (own.clone(), 200),
    ] {
        assert_eq!(ask(&relay, "GET", "/api/tenants/a/health", &token).status, status, "{token}");
    }
    assert_eq!(ask(&relay, "POST", "/api/tenants/a/reload", &own).status, 204);
    // It opens nothing else.
    let query = format!("apikey={own}&vsn=2.0.0");
    assert!(Client::try_connect(&relay, &query, "2.0.0").await.is_err());
}
