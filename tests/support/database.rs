//! A database of the test's own, and a connection to write with.

use tokio::sync::Mutex;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Connection, NoTls, Row, Socket};

use super::cluster::SUPERUSER;
use super::program::run;
use super::{Cluster, unique, until};

/// An empty database on a cluster, with a superuser's connection.
#[derive(Debug)]
pub struct Database {
    /// Its name; unique in the test process, and so is the slot named after it.
    pub name: String,
    /// The superuser's connection string.
    pub url: String,
    port: u16,
    client: Client,
}

impl Database {
    /// Creates it.
    pub async fn create(cluster: &Cluster) -> Self {
        let name = unique("test");
        let admin = connect(&cluster.url(SUPERUSER, "postgres")).await;
        admin.batch_execute(&format!("create database {name} template template0")).await.unwrap();
        let url = cluster.url(SUPERUSER, &name);
        let client = connect(&url).await;
        Self { name, url, port: cluster.port(), client }
    }

    /// A connection string for another role.
    pub fn url_as(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// A slot name no other database's tests use.
    pub fn slot(&self) -> String {
        format!("slot_{}", self.name)
    }

    /// The superuser's connection.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Another connection of the superuser.
    pub async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    /// Another connection as `user`.
    pub async fn connect_as(&self, user: &str) -> Client {
        connect(&self.url_as(user)).await
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{error:?}\nin {sql}");
        }
    }

    /// Runs one query.
    pub async fn query(&self, sql: &str) -> Vec<Row> {
        self.client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{error:?}\nin {sql}"))
    }

    /// The one text a query answers.
    pub async fn text(&self, sql: &str) -> String {
        self.query(sql).await[0].get(0)
    }

    /// Creates the API roles where the cluster lacks them, `auth.uid()` and friends, the publication, and a role
    /// `relay` that may do what the shipped SQL lets it. Roles belong to the cluster: safe to call side by side.
    pub async fn with_roles(self) -> Self {
        // Roles belong to the whole cluster, and Postgres refuses two changes of one at once.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
        let _turn = ONE_AT_A_TIME.lock().await;
        self.execute(include_str!("roles.sql")).await;
        self
    }

    /// Creates a table with these columns, and publishes it.
    pub async fn with_table(self, name: &str, columns: &str) -> Self {
        let publish = format!("alter publication supabase_realtime add table {name}");
        self.execute(&format!("create table {name} ({columns}); {publish}")).await;
        self
    }

    /// Waits until a statement in this database waits for an advisory lock, such as one that a policy takes.
    pub async fn waits_for_lock(&self) {
        let sql = "select from pg_locks where locktype = 'advisory' and not granted
                   and database = (select oid from pg_database where datname = current_database())";
        until("a statement to wait for an advisory lock", || async {
            (!self.query(sql).await.is_empty()).then_some(())
        })
        .await;
    }

    /// A new role that may log in and create schemas in this database, and nothing else. Whoever asks for it drops it.
    pub async fn role_that_may_create(&self) -> String {
        let (role, name) = (format!("owner_{}", self.name), &self.name);
        let grant = format!("grant create on database {name} to {role}");
        self.execute(&format!("create role {role} login; {grant}")).await;
        role
    }

    /// Runs `relay migrate`.
    pub fn with_realtime(self) -> Self {
        self.with_realtime_again();
        self
    }

    /// Runs `relay migrate` on a database in use.
    pub fn with_realtime_again(&self) -> &Self {
        let (code, printed) = run(&["migrate", "--role", "relay", "--url", &self.url]);
        assert_eq!(code, Some(0), "{printed}");
        self
    }
}

/// A plain connection, driven in the background until dropped.
pub async fn connect(url: &str) -> Client {
    drive(tokio_postgres::connect(url, NoTls).await.unwrap())
}

/// The same, if the server is there.
pub async fn try_connect(url: &str) -> Option<Client> {
    tokio_postgres::connect(url, NoTls).await.ok().map(drive)
}

fn drive((client, connection): (Client, Connection<Socket, NoTlsStream>)) -> Client {
    tokio::spawn(async move {
        // Tests kill servers on purpose; the client notices by itself.
        let _ = connection.await;
    });
    client
}
