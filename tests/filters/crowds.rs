//! What one client asks for, however much and however costly, holds up nothing but its own joins.

use std::sync::Arc;

use futures_util::future::{join_all, poll_immediate};
use relay::catalog::Catalog;
use relay::catalog::bind::{BindContext, Unbound, bind};
use relay::model::{CallerIdentity, Network, Principal, Subscription};

use super::{bind_as, catalog, wish};
use crate::support::{Cluster, Database};

/// A table whose column `slow` is read by a function that waits for the advisory lock 7.
const TABLES: &str = "
    create table notes (id int primary key);
    create function patient(value int) returns boolean language plpgsql as
        $$ begin
            while not pg_try_advisory_xact_lock_shared(7) loop perform pg_sleep(0.01); end loop;
            return true;
        end $$;
    create domain patient as int check (public.patient(value));
    create type pair as (left_one patient, right_one int);
    create table slow (id int primary key, slow pair);
    alter publication supabase_realtime add table notes, slow;";

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(TABLES).await;
    database
}

fn subject(name: &str) -> Principal {
    Principal::new("authenticated", format!(r#"{{"role":"authenticated","sub":"{name}"}}"#))
}

async fn bind_one(
    catalog: Arc<Catalog>,
    name: &str,
    table: &str,
    filter: &str,
) -> Result<Vec<Subscription>, Unbound> {
    bind_as(&catalog, &subject(name), &[wish(table, filter)]).await
}

#[tokio::test]
async fn names_that_lead_nowhere_hold_up_no_table_in_use() {
    let database = database().await;
    let catalog = catalog(&database);
    let oid = "select array['notes'::regclass::oid, 'slow'::regclass::oid]";
    let oids: Vec<u32> = database.query(oid).await[0].get(0);
    let [notes, slow] = oids[..] else { panic!("{oids:?}") };
    // Both connections are open.
    assert!(catalog.table_by_oid(notes).await.unwrap().is_some());
    assert!(catalog.find("public", "nowhere").await.unwrap().is_none());
    let names = (0..5_000).map(|number| {
        let catalog = &catalog;
        async move { catalog.find("public", &format!("nowhere_{number}")).await }
    });
    let mut names = std::pin::pin!(join_all(names));
    assert!(poll_immediate(&mut names).await.is_none());
    tokio::select! {
        biased;
        _ = &mut names => panic!("a table in use was looked up after all names"),
        table = catalog.table_by_oid(slow) => assert!(table.unwrap().is_some()),
    }
}

/// Binds for somebody without a subject, who comes from an address.
async fn bind_from(
    catalog: Arc<Catalog>,
    address: &str,
    table: &str,
    filter: &str,
) -> Result<Vec<Subscription>, Unbound> {
    let principal = &Principal::of_role("anon");
    let caller = &CallerIdentity::of(principal, Network::of(address.parse().unwrap()));
    bind(&catalog, BindContext { principal, caller }, &[wish(table, filter)]).await
}

/// While `costly` is under way, and the first of it waits for the lock 7, `other` is bound.
async fn is_bound_meanwhile(
    database: &Database,
    costly: impl Future<Output = ()>,
    other: impl Future<Output = Result<Vec<Subscription>, Unbound>>,
) {
    let lock = database.connect().await;
    lock.batch_execute("select pg_advisory_lock(7)").await.unwrap();
    let mut costly = std::pin::pin!(costly);
    let observer = database.connect().await;
    let waiting = "select count(*) from pg_stat_activity
                   where application_name = 'relay-bind' and wait_event = 'PgSleep'
                   and datname = current_database()";
    let is_waiting = async {
        while observer.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = &mut costly => panic!("the filters were read without their lock"),
        () = is_waiting => {}
    }
    // Each is given up after two seconds, one after the other: the last is far from its turn.
    tokio::select! {
        biased;
        () = &mut costly => panic!("a filter waited for those of somebody else"),
        bound = other => assert!(bound.is_ok()),
    }
    lock.batch_execute("select pg_advisory_unlock(7)").await.unwrap();
    costly.await;
}

#[tokio::test]
async fn costly_filters_of_one_subject_hold_up_nobody_else() {
    let database = database().await;
    let catalog = catalog(&database);
    assert!(bind_one(Arc::clone(&catalog), "ben", "notes", "id=eq.1").await.is_ok());
    let costly = (0..4).map(|_| bind_one(Arc::clone(&catalog), "ann", "slow", "slow=eq.\"(1,2)\""));
    let costly = async { drop(join_all(costly).await) };
    let other = bind_one(Arc::clone(&catalog), "ben", "notes", "id=eq.2");
    is_bound_meanwhile(&database, costly, other).await;
}

#[tokio::test]
async fn costly_filters_of_one_address_hold_up_nobody_from_elsewhere() {
    let database = database().await;
    let catalog = catalog(&database);
    let from = |address, table, filter| bind_from(Arc::clone(&catalog), address, table, filter);
    assert!(from("192.0.2.1", "notes", "id=eq.1").await.is_ok());
    let costly = (0..8).map(|_| from("192.0.2.2", "slow", "slow=eq.\"(1,2)\""));
    let costly = async { drop(join_all(costly).await) };
    is_bound_meanwhile(&database, costly, from("192.0.2.1", "notes", "id=eq.2")).await;
}

#[tokio::test]
async fn a_filter_that_takes_too_long_to_read_is_refused_for_good() {
    let database = database().await;
    let catalog = catalog(&database);
    let lock = database.connect().await;
    lock.batch_execute("select pg_advisory_lock(7)").await.unwrap();
    let bound = bind_one(Arc::clone(&catalog), "ann", "slow", "slow=eq.\"(1,2)\"").await;
    let Err(Unbound::Refused(text)) = bound else { panic!("{bound:?}") };
    let end = "57014 (query_canceled) the filters of this channel take Postgres too long to read";
    assert!(text.ends_with(end), "{text}");
    lock.batch_execute("select pg_advisory_unlock(7)").await.unwrap();
    let bound = bind_one(catalog, "ann", "slow", "slow=eq.\"(1,2)\"").await;
    assert_eq!(bound.unwrap().len(), 1);
}
