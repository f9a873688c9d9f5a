//! What tools of self-hosted installations ask, in the shapes of Supabase Realtime: how the one tenant fares.
//!
//! A relay serves one database, so every id names it. What would make, change or remove a tenant is answered with what
//! to do instead.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::routing::post;
use serde_json::{Value, json};

use super::anywhere;
use crate::auth::api::{ApiKeys, Standing};
use crate::egress::phoenix::Desk;
use crate::source::SourceState;

/// With and without a gateway's prefix.
const PREFIXES: [&str; 2] = ["/realtime/v1/api", "/api"];

/// What the routes are.
const DESCRIPTION: &str = include_str!("openapi.json");

const ONE: &str = "this relay serves one database, which its configuration names: there is no tenant to make, change or \
                   remove; set postgres.url and [limits] in relay.toml and start it again";
const NO_SHUTDOWN: &str = "a relay without its database has nothing to do: stop the process (SIGTERM), or POST …/reload to \
                           let every client connect again";

/// Whom the routes ask.
#[derive(Clone, Debug)]
pub struct Tenant {
    desk: Arc<Desk>,
    keys: Arc<ApiKeys>,
    /// The database's name.
    database: Arc<str>,
    /// What the process calls itself.
    node: Arc<str>,
}

impl Tenant {
    /// The tenant of one database, served by the process at `address`.
    pub fn new(
        desk: Arc<Desk>,
        keys: Arc<ApiKeys>,
        database: &str,
        address: std::net::SocketAddr,
    ) -> Self {
        let node = format!("relay@{address}").into();
        Self { desk, keys, database: database.into(), node }
    }

    /// The routes.
    pub(super) fn routes(self) -> Router {
        let router = PREFIXES.into_iter().fold(Router::new(), |router, prefix| {
            let at = |path: &str| format!("{prefix}{path}");
            router
                .route(&at("/ping"), get(|| json_of(r#"{"message":"Success"}"#)))
                .route(&at("/openapi"), get(|| json_of(DESCRIPTION)))
                .route(&at("/tenants"), get(list).post(fixed))
                .route(&at("/tenants/{id}"), get(show).put(fixed).patch(fixed).delete(fixed))
                .route(&at("/tenants/{id}/health"), get(health))
                .route(&at("/tenants/{id}/reload"), post(reload))
                .route(&at("/tenants/{id}/shutdown"), post(shutdown))
        });
        router.with_state(self)
    }

    /// Nothing else is said to those who are not believed.
    async fn admit(&self, headers: &HeaderMap, needed: Standing) -> Result<(), StatusCode> {
        let standing = match bearer(headers) {
            Some(token) => self.keys.judge(token, (self.desk.clock)()).await,
            None => None,
        };
        if standing.is_some_and(|standing| needed <= standing) {
            return Ok(());
        }
        self.desk.refused("ApiForbidden");
        Err(StatusCode::FORBIDDEN)
    }

    fn describe(&self, id: &str) -> Value {
        let limits = &self.desk.limits;
        json!({
            "id": id,
            "external_id": id,
            "name": &*self.database,
            "max_concurrent_users": limits.connections,
            "max_channels_per_client": limits.channels,
            "max_events_per_second": limits.messages_per_second,
            "max_joins_per_second": limits.joins_per_second,
            "inserted_at": null,
            "extensions": [],
            "private_only": self.desk.rules.private_only,
            "presence_enabled": self.desk.rules.presence_always,
        })
    }
}

async fn list(State(tenant): State<Tenant>, headers: HeaderMap) -> Result<Response, StatusCode> {
    tenant.admit(&headers, Standing::Asks).await?;
    let only = tenant.describe(&tenant.database);
    Ok(answer(StatusCode::OK, &json!({ "data": [only] })))
}

async fn show(
    State(tenant): State<Tenant>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    tenant.admit(&headers, Standing::Asks).await?;
    Ok(answer(StatusCode::OK, &json!({ "data": tenant.describe(&id) })))
}

async fn health(State(tenant): State<Tenant>, headers: HeaderMap) -> Result<Response, StatusCode> {
    tenant.admit(&headers, Standing::Asks).await?;
    let desk = &tenant.desk;
    let is_streaming = matches!(&*desk.source.borrow(), SourceState::Streaming { .. });
    // What streams is connected; what does not may be waiting for the slot.
    let is_connected = is_streaming || desk.policies.reach_postgres().await;
    let data = json!({
        "healthy": is_streaming,
        "db_connected": is_connected,
        "replication_connected": is_streaming,
        "connected_cluster": desk.metrics.connections.get(),
        "region": null,
        "node": &*tenant.node,
    });
    Ok(answer(StatusCode::OK, &json!({ "data": data })))
}

/// Every client connects again.
async fn reload(State(tenant): State<Tenant>, headers: HeaderMap) -> Result<Response, StatusCode> {
    tenant.admit(&headers, Standing::Acts).await?;
    tracing::info!("every client is told to connect again, as somebody asked by HTTP");
    tenant.desk.recall();
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn shutdown(
    State(tenant): State<Tenant>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    tenant.admit(&headers, Standing::Acts).await?;
    Ok(answer(StatusCode::NOT_IMPLEMENTED, &json!({ "message": NO_SHUTDOWN })))
}

async fn fixed(State(tenant): State<Tenant>, headers: HeaderMap) -> Result<Response, StatusCode> {
    tenant.admit(&headers, Standing::Acts).await?;
    Ok(answer(StatusCode::NOT_IMPLEMENTED, &json!({ "message": ONE })))
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [JSON], body.to_string()).into_response()
}

async fn json_of(text: &'static str) -> Response {
    std::future::ready(anywhere(([JSON], text)).into_response()).await
}

const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json; charset=utf-8");
