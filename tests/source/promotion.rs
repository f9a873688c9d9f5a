//! A standby is promoted: the history goes on where Postgres kept the slot and lost nothing; elsewhere a new one begins.

use std::path::Path;

use relay::source::Break;

use super::{Wish, each_once, published};
use crate::support::cluster::{bin_dir, command};
use crate::support::{Cluster, Database, database, free_port, until};

/// A standby of a cluster, in a directory of that cluster; stopped when dropped.
struct Standby<'a> {
    data: std::path::PathBuf,
    port: u16,
    primary: &'a Cluster,
}

impl<'a> Standby<'a> {
    async fn start(primary: &'a Cluster, settings: &[(&str, String)]) -> Self {
        let (data, port) = (primary.dir().join("standby"), free_port());
        // A copy of a server that stands still is a base backup.
        primary.stop("fast");
        super::slot::copy(&primary.data(), &data);
        primary.start_again();
        let creator = database::connect(&primary.url("postgres", "postgres")).await;
        let create = "select pg_create_physical_replication_slot('standby', true)";
        creator.query(create, &[]).await.unwrap();
        std::fs::write(data.join("standby.signal"), "").unwrap();
        let mut lines = std::fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
        let own = ("port", port.to_string());
        for (name, value) in settings.iter().chain([&own]) {
            lines.push_str(&format!("{name} = '{value}'\n"));
        }
        std::fs::write(data.join("postgresql.auto.conf"), lines).unwrap();
        let standby = Self { data, port, primary };
        assert!(standby.ctl(&["start", "-w", "-l"], Some(&primary.dir().join("standby.log"))));
        standby
    }

    fn url(&self, name: &str) -> String {
        self.primary
            .url("postgres", name)
            .replace(&self.primary.port().to_string(), &self.port.to_string())
    }

    fn ctl(&self, arguments: &[&str], log: Option<&Path>) -> bool {
        let mut ctl = command(bin_dir().join("pg_ctl"));
        ctl.args(arguments).args(log).arg("-D").arg(&self.data);
        ctl.stdout(std::process::Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Standby<'_> {
    fn drop(&mut self) {
        self.ctl(&["stop", "-w", "-m", "immediate"], None);
    }
}

#[tokio::test]
async fn a_promoted_standby_goes_on_where_it_kept_the_slot_and_is_a_new_history_elsewhere() {
    let cluster = Cluster::start(&[]);
    let asking = database::connect(&cluster.url("postgres", "postgres")).await;
    let version = asking.query_one("select current_setting('server_version_num')::int", &[]).await;
    let keeps_slots = 170_000 <= version.unwrap().get::<_, i32>(0);
    let primary = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", cluster.port());
    let mut settings = vec![
        ("primary_conninfo", primary),
        ("primary_slot_name", "standby".to_owned()),
        ("hot_standby_feedback", "on".to_owned()),
    ];
    if keeps_slots {
        settings.push(("sync_replication_slots", "on".to_owned()));
    }
    let standby = Standby::start(&cluster, &settings).await;
    let database = published(&cluster).await;
    if keeps_slots {
        database.execute("alter system set synchronized_standby_slots = 'standby'").await;
        cluster.reload();
    }
    let (primary, other) = (cluster.port(), standby.port);
    let url = format!(
        "postgres://postgres@127.0.0.1:{primary},127.0.0.1:{other}/{}?target_session_attrs=primary",
        database.name
    );
    let mut reader = Wish { url, ..Wish::on(&database) }.read();
    let epoch = reader.streaming().await;
    database.execute("insert into t select generate_series(1, 100)").await;
    assert_eq!(reader.ids_until(100).await, each_once(100));
    follow(&database, &standby, keeps_slots).await;

    cluster.stop("fast");
    assert!(standby.ctl(&["promote", "-w"], None));
    let writer = database::connect(&standby.url(&database.name)).await;
    if keeps_slots {
        writer.batch_execute("insert into t values (101)").await.unwrap();
        assert_eq!(reader.ids_until(101).await, [(101, 1)].into());
        assert_eq!((reader.streaming().await, reader.begun_by()), (epoch, None));
    } else {
        reader.streaming_anew(epoch).await;
        assert_eq!(reader.begun_by(), Some(Break::Timeline));
        writer.batch_execute("insert into t values (102)").await.unwrap();
        assert_eq!(reader.ids_until(102).await, [(102, 1)].into());
    }
    reader.stop().await;
}

/// Waits until the standby has everything, its copy of the slot too.
async fn follow(database: &Database, standby: &Standby<'_>, keeps_slots: bool) {
    let there = database::connect(&standby.url("postgres")).await;
    let end = database.text("select pg_current_wal_lsn()::text").await;
    let mut asked = format!("select pg_last_wal_replay_lsn() >= '{end}'");
    if keeps_slots {
        asked.push_str(&format!(
            " and exists (select from pg_replication_slots where slot_name = '{}' and synced and not temporary)",
            database.slot()
        ));
    }
    until("the standby to follow", || async {
        // Something must be written for a copy to become complete.
        database.execute("checkpoint").await;
        there.query_one(&asked, &[]).await.unwrap().get::<_, bool>(0).then_some(())
    })
    .await;
}
