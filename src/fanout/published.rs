//! Tables that leave the publication while somebody is subscribed to them, and come back: their subscribers are told,
//! because nothing else would tell them that no changes does not mean that nothing changes.
//!
//! Postgres writes nothing of it into the stream, so the catalog is asked now and then.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::catalog::Catalog;
use crate::error::Error;
use crate::hub::{Hub, Member, Notice};
use crate::metrics::{Metrics, reason};
use crate::model::Target;

/// How often the catalog is asked. It keeps what is in use for about a second itself.
const PERIOD: Duration = Duration::from_secs(2);

/// Schema and name of a table.
type Name = (Box<str>, Box<str>);

/// Watches the tables that somebody is subscribed to.
#[derive(Debug)]
pub struct Published {
    hub: Arc<Hub>,
    catalog: Arc<Catalog>,
    metrics: Metrics,
    /// Tables whose subscribers were told that they are gone.
    gone: HashSet<Name>,
    /// What was published when it was last asked for, while anybody has wishes for more than one table.
    before: Option<HashSet<Name>>,
}

/// What is asked for now.
#[derive(Debug, Default)]
struct Wanted {
    tables: HashMap<Name, Vec<Arc<Member>>>,
    /// Members that ask for a schema, or with `None` for everything.
    wildcards: HashMap<Option<Box<str>>, Vec<Arc<Member>>>,
}

impl Published {
    /// Nothing was looked at yet; what is subscribed to is taken to be published.
    pub fn new(hub: Arc<Hub>, catalog: Arc<Catalog>, metrics: Metrics) -> Self {
        Self { hub, catalog, metrics, gone: HashSet::new(), before: None }
    }

    /// Watches for ever.
    pub async fn run(mut self) -> std::convert::Infallible {
        loop {
            sleep(PERIOD).await;
            if let Err(error) = self.look().await {
                debug!(%error, "could not look whether tables are still published");
            }
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let wanted = self.wanted();
        let mut now: HashMap<Name, bool> = HashMap::new();
        for name in wanted.tables.keys() {
            let table = self.catalog.find(&name.0, &name.1).await?;
            now.insert(name.clone(), table.is_some_and(|table| table.is_published));
        }
        if wanted.wildcards.is_empty() {
            self.before = None;
        } else {
            let listed = self.catalog.published().await?;
            for name in self.before.iter().flatten().chain(&self.gone) {
                now.entry(name.clone()).or_insert_with(|| listed.contains(name));
            }
            debug!(tables = listed.len(), "looked at the published tables");
            self.before = Some(listed);
        }
        // What nobody asks for any more is forgotten.
        self.gone.retain(|name| now.contains_key(name));
        for (name, is_published) in now {
            let is_news = if is_published {
                self.gone.remove(&name)
            } else {
                wanted.members(&name).next().is_some() && self.gone.insert(name.clone())
            };
            if is_news {
                self.tell(&name, is_published, wanted.members(&name));
            }
        }
        Ok(())
    }

    fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for (wish, members) in self.hub.read().wishes() {
            let members = members.iter().map(|(member, _)| Arc::clone(member));
            match &wish.target {
                Target::Table { schema, table } => {
                    wanted
                        .tables
                        .entry((schema.clone(), table.clone()))
                        .or_default()
                        .extend(members);
                }
                Target::Schema(schema) => {
                    wanted.wildcards.entry(Some(schema.clone())).or_default().extend(members);
                }
                Target::All => wanted.wildcards.entry(None).or_default().extend(members),
            }
        }
        wanted
    }

    fn tell<'a>(
        &self,
        name: &Name,
        is_published: bool,
        members: impl Iterator<Item = &'a Arc<Member>>,
    ) {
        let (schema, table) = name;
        let publication = self.catalog.publication();
        let message = if is_published {
            info!(schema = &**schema, table = &**table, publication, "a table is published again");
            format!("Changes of {schema}.{table} are delivered again. Please read the table again.")
        } else {
            self.metrics.gaps.get_or_create(&reason("unpublished")).inc();
            warn!(
                schema = &**schema,
                table = &**table,
                publication,
                "a table that clients are subscribed to is not published any more; they were told"
            );
            format!(
                "Changes of {schema}.{table} are not delivered any more: it is not in publication {publication:?} \
                 (taken out, renamed or dropped)."
            )
        };
        let notice = Notice::of_changes(is_published, message);
        let mut told = HashSet::new();
        for member in members.filter(|member| told.insert(member.id)) {
            // A member that cannot be told is being closed, and learns by reconnecting.
            let _ = member.notify(&notice);
        }
    }
}

impl Wanted {
    /// Who asks for the table called `name`, some perhaps twice.
    fn members(&self, name: &Name) -> impl Iterator<Item = &Arc<Member>> {
        let own = self.tables.get(name);
        let of_schema = self.wildcards.get(&Some(name.0.clone()));
        [own, of_schema, self.wildcards.get(&None)].into_iter().flatten().flatten()
    }
}
