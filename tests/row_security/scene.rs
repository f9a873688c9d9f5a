//! A database with the relay's two ways of asking it, and the same question put to Postgres directly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use relay::auth::requester::Requester;
use relay::auth::visibility::{Asked, Question, Trouble, Verdict, Visibility};
use relay::catalog::Catalog;
use relay::config::Postgres;
use relay::metrics::Metrics;
use relay::model::table::Rows;
use relay::model::{Cell, Principal, Table};
use relay::postgres::Target;
use relay::rowjson;
use relay::secret::Secret;
use relay::shutdown::Stage;
use tokio_postgres::Client;

use crate::support::{Cluster, Database};

/// A database, the catalog and the row checks, asked as the relay's own least-privileged role.
pub struct Scene {
    pub db: Database,
    pub catalog: Arc<Catalog>,
    pub visibility: Arc<Visibility>,
    pub metrics: Metrics,
    pub stage: Stage,
}

/// How the row checks are set up.
pub struct Setup {
    pub roles: Vec<String>,
    pub pool: usize,
    pub check_timeout: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            roles: ["anon", "authenticated", "service_role"].map(str::to_owned).to_vec(),
            pool: 3,
            check_timeout: Duration::from_secs(20),
        }
    }
}

impl Scene {
    pub async fn new() -> Self {
        Self::with(Cluster::shared(), Setup::default()).await
    }

    pub async fn with(cluster: &Cluster, setup: Setup) -> Self {
        let db = cluster.database().await.with_roles().await;
        let url = db.url_as("relay");
        let target = Target::parse(&url).unwrap();
        let stage = Stage::new();
        let metrics = Metrics::new();
        let settings = Postgres {
            url: Secret::new(url),
            publication: "supabase_realtime".to_owned(),
            slot: "unused".to_owned(),
            pool: setup.pool,
            check_timeout: setup.check_timeout,
            wal_sender_timeout: Duration::from_secs(5),
            heartbeat: Duration::ZERO,
            max_slot_lag: 0,
            max_transaction: 1 << 20,
            max_backlog: 1 << 20,
        };
        let catalog =
            Catalog::new(target.clone(), &settings.publication, &setup.roles, stage.clone());
        let visibility = Visibility::new(target, &settings, metrics.clone(), stage.clone());
        Self { db, catalog, visibility, metrics, stage }
    }

    /// The table as the catalog knows it.
    pub async fn table(&self, name: &str) -> Arc<Table> {
        self.catalog.find("public", name).await.unwrap().expect("the table exists")
    }

    /// The image of each row of `table` for which `condition` holds, by the text of its first column, as the WAL would
    /// tell it: generated columns are not in it.
    pub async fn images(&self, table: &Table, condition: &str) -> BTreeMap<String, String> {
        let written: Vec<_> =
            table.columns.iter().filter(|column| column.generated.is_none()).collect();
        let texts: Vec<String> = written
            .iter()
            .map(|column| {
                let name = format!("\"{}\"", column.name.replace('"', "\"\""));
                format!("case when num_nulls({name}) = 0 then format('%s', {name}) end")
            })
            .collect();
        let sql = format!(
            "select array[{}] from {}.\"{}\" where {condition}",
            texts.join(", "),
            table.schema,
            table.name
        );
        let rows = self.db.query(&sql).await;
        let image = |row: &tokio_postgres::Row| {
            let cells: Vec<Cell> = row
                .get::<_, Vec<Option<String>>>(0)
                .into_iter()
                .map(|text| text.map_or(Cell::Null, |text| Cell::Text(Bytes::from(text))))
                .collect();
            let key = cells[0].text().unwrap().to_owned();
            let mut image = String::new();
            let named = written.iter().zip(&cells);
            rowjson::push_image(
                &mut image,
                named.map(|(column, cell)| (&*column.name, &column.sql_type, cell)),
            );
            (key, image)
        };
        rows.iter().map(image).collect()
    }

    /// What the relay says of these images, as the fan-out would ask it.
    pub async fn judge(
        &self,
        principal: &Principal,
        table: &Arc<Table>,
        xids: &[u32],
        images: Vec<String>,
    ) -> Result<Vec<bool>, Trouble> {
        match &table.access.get(principal.role()).expect("the role is known").rows {
            Rows::All => Ok(vec![true; images.len()]),
            Rows::None => Ok(vec![false; images.len()]),
            Rows::Policy(policy) => {
                let rows =
                    images.into_iter().map(|image| Asked { image, is_partial: false }).collect();
                let question = Question::Readable {
                    table: Arc::clone(table),
                    policy: Arc::clone(policy),
                    rows,
                };
                let asker = Requester::of(principal);
                let judged = self.visibility.judge(&asker, principal, xids, vec![question]);
                let answers = judged.await.remove(0);
                answers.and_then(|verdicts| verdicts.into_iter().map(decided).collect())
            }
        }
    }
}

/// Whether a row is shown; that it moved on is no verdict.
pub fn decided(verdict: Verdict) -> Result<bool, Trouble> {
    match verdict {
        Verdict::Yes => Ok(true),
        Verdict::No => Ok(false),
        Verdict::RowChanged => Err(Trouble::Incomplete),
    }
}

/// The text of each row's first column that `principal` sees in `table` where `condition` holds; the SQLSTATE when it
/// raises. `before` runs first, as the superuser, and is undone.
pub async fn shown(
    client: &mut Client,
    principal: &Principal,
    table: &Table,
    before: &str,
    condition: &str,
) -> Result<Vec<String>, String> {
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute(before).await.unwrap();
    transaction.query("select set_config('role', $1, true)", &[&principal.role()]).await.unwrap();
    let claims: serde_json::Value = serde_json::from_str(principal.claims()).unwrap();
    let sub = claims["sub"].as_str().unwrap_or_default();
    transaction
        .query(
            "select set_config('request.jwt.claims', $1, true), \
             set_config('request.jwt.claim.sub', $2, true), \
             set_config('request.jwt.claim.role', $3, true)",
            &[&principal.claims(), &sub, &principal.role()],
        )
        .await
        .unwrap();
    let sql = format!(
        "select \"{}\"::text from {}.\"{}\" where {condition}",
        table.columns[0].name, table.schema, table.name
    );
    let shown = transaction.query(&sql, &[]).await;
    let shown = match shown {
        Ok(rows) => Ok(rows.iter().map(|row| row.get(0)).collect()),
        Err(error) => Err(error.as_db_error().unwrap().code().code().to_owned()),
    };
    transaction.rollback().await.unwrap();
    shown
}

/// A principal with a `sub`.
pub fn user(role: &str, sub: &str) -> Principal {
    Principal::new(role, format!(r#"{{"role":"{role}","sub":"{sub}"}}"#))
}
