//! The harness keeps its own promises.

use crate::support::Cluster;

#[tokio::test]
async fn every_database_is_empty_and_its_own() {
    let one = Cluster::shared().database().await.with_roles().await;
    let two = Cluster::shared().database().await;
    one.execute("create table only_here (id int)").await;
    let tables =
        two.text("select count(*)::text from pg_tables where tablename = 'only_here'").await;
    assert_eq!(tables, "0");
    assert_ne!(one.slot(), two.slot());
}

#[tokio::test]
async fn a_dropped_cluster_leaves_nothing() {
    let cluster = Cluster::start(&[]);
    let dir = cluster.dir().to_owned();
    assert!(dir.exists());
    drop(cluster);
    assert!(!dir.exists());
}
