//! Filters, bound by Postgres and judged by the router: the texts of refusals, and agreement with Postgres.

mod agreement;
mod binding;
mod crowds;
mod renewed;
mod roles;
mod values;

use std::sync::Arc;

use relay::catalog::Catalog;
use relay::catalog::bind::{BindContext, Unbound, Wish, bind};
use relay::model::{CallerIdentity, Network, Principal, Subscription};
use relay::postgres::Target;
use relay::shutdown::Stage;

use crate::support::Database;

/// A catalog over the database, reading as its superuser.
pub fn catalog(database: &Database) -> Arc<Catalog> {
    catalog_for(database, &["anon", "authenticated", "service_role"])
}

/// The same for tokens of these roles.
pub fn catalog_for(database: &Database, roles: &[&str]) -> Arc<Catalog> {
    catalog_of(&database.url, roles)
}

/// The same for a login role of choice.
pub fn catalog_of(url: &str, roles: &[&str]) -> Arc<Catalog> {
    let target = Target::parse(url).unwrap();
    let roles: Vec<_> = roles.iter().map(|&role| role.to_owned()).collect();
    Catalog::new(target, "supabase_realtime", &roles, Stage::new())
}

/// A wish for `public.<table>` with a filter.
pub fn wish(table: &str, filter: &str) -> Wish {
    let own = |text: &str| Some(text.to_owned());
    Wish { schema: own("public"), table: own(table), filter: own(filter), ..Wish::default() }
}

/// Binds for a principal that comes from an unknown network.
pub async fn bind_as(
    catalog: &Catalog,
    principal: &Principal,
    wishes: &[Wish],
) -> Result<Vec<Subscription>, Unbound> {
    let caller = &CallerIdentity::of(principal, Network::UNKNOWN);
    bind(catalog, BindContext { principal, caller }, wishes).await
}

/// Binds as `anon`; a refusal comes as its text.
pub async fn try_bind(catalog: &Catalog, wishes: &[Wish]) -> Result<Vec<Subscription>, String> {
    let anon = Principal::new("anon", r#"{"role":"anon"}"#);
    match bind_as(catalog, &anon, wishes).await {
        Ok(bound) => Ok(bound),
        Err(Unbound::Refused(text)) => Err(text),
        Err(Unbound::Unavailable(text)) => panic!("Postgres could not be asked: {text}"),
    }
}
