//! `relay bench`: what the relay costs and how fast it is, on this machine, beside the floor of the same run.
//!
//! Each measurement starts a throwaway Postgres and the relay as a process of its own, both gone afterwards. The
//! clients and writers are this process. Figures are printed as a Markdown table, with the command that made them.

mod broadcast;
mod crowd;
mod fanout;
mod files;
mod filters;
mod floor;
mod from_database;
mod latency;
mod memory;
mod report;
mod samples;
mod stand;
mod throughput;
mod writer;

use latency::Load;
use report::Report;

use super::Globals;
use crate::error::Error;

/// What `relay bench` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing needs to be set up: each measurement starts its own Postgres and its own relay.
Build with --release; figures of a debug build say so and mean little.")]
pub(crate) struct Args {
    /// What to measure [default: all]
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What to measure.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// From COMMIT to the client, at a steady rate
    Latency {
        /// Rows per second
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// For how long
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// With row level security on the table
        #[arg(long)]
        rls: bool,
        /// Without a log on disk
        #[arg(long)]
        ephemeral: bool,
    },
    /// Single-row transactions per second to one subscriber
    Throughput {
        /// How many transactions
        #[arg(long, default_value_t = 200_000)]
        rows: u64,
        /// With row level security on the table
        #[arg(long)]
        rls: bool,
    },
    /// One change to many subscribers
    Fanout {
        /// How many subscribers
        #[arg(long, default_value_t = 1000)]
        clients: usize,
        /// With row level security on the table
        #[arg(long)]
        rls: bool,
    },
    /// One broadcast to many subscribers
    Broadcast {
        /// How many subscribers
        #[arg(long, default_value_t = 1000)]
        clients: usize,
        /// For how long, each load
        #[arg(long, default_value_t = 5)]
        seconds: u32,
    },
    /// From COMMIT of a `realtime.send` to a subscriber, at a steady rate
    FromDatabase {
        /// Messages per second
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// For how long
        #[arg(long, default_value_t = 10)]
        seconds: u32,
    },
    /// Many subscribers, each with its own `eq` filter, against one
    Filters {
        /// How many subscribers
        #[arg(long, default_value_t = 1000)]
        clients: usize,
        /// How many transactions
        #[arg(long, default_value_t = 100_000)]
        rows: u64,
        /// With row level security on the table
        #[arg(long)]
        rls: bool,
    },
    /// Memory of the relay per idle client
    Memory {
        /// How many clients, e.g. 1000,10000
        #[arg(long, value_delimiter = ',', default_values_t = [1000, 10_000])]
        clients: Vec<usize>,
    },
    /// All of these, as in the README
    All,
}

/// Does it.
///
/// # Errors
/// What failed to start, or what was refused while measuring.
pub(crate) async fn run(args: Args, _globals: &Globals) -> Result<(), Error> {
    let verb = args.verb.unwrap_or(Verb::All);
    files::ensure(verb.most_clients())?;
    let mut report = Report::default();
    let done = measure(&verb, &mut report).await;
    report.end()?;
    done
}

async fn measure(verb: &Verb, report: &mut Report) -> Result<(), Error> {
    match verb {
        &Verb::Latency { rate, seconds, rls, ephemeral } => {
            let load = Load { rate, seconds, is_rls: rls, is_ephemeral: ephemeral };
            latency::run(load, report).await
        }
        &Verb::Throughput { rows, rls } => throughput::run(rows, rls, report).await,
        &Verb::Fanout { clients, rls } => fanout::run(clients, rls, report).await,
        &Verb::Broadcast { clients, seconds } => broadcast::run(clients, seconds, report).await,
        &Verb::FromDatabase { rate, seconds } => from_database::run(rate, seconds, report).await,
        &Verb::Filters { clients, rows, rls } => filters::run(clients, rows, rls, report).await,
        Verb::Memory { clients } => memory::run(clients, report).await,
        Verb::All => {
            for (rate, is_rls) in [(100, false), (100, true), (1000, false), (1000, true)] {
                let load = Load { rate, seconds: 10, is_rls, is_ephemeral: false };
                latency::run(load, report).await?;
            }
            for is_rls in [false, true] {
                throughput::run(200_000, is_rls, report).await?;
            }
            for is_rls in [false, true] {
                filters::run(1000, 100_000, is_rls, report).await?;
            }
            for is_rls in [false, true] {
                fanout::run(1000, is_rls, report).await?;
            }
            for clients in [1000, 5000] {
                broadcast::run(clients, 5, report).await?;
            }
            from_database::run(1000, 10, report).await?;
            memory::run(&[1000, 10_000], report).await
        }
    }
}

impl Verb {
    fn most_clients(&self) -> usize {
        match self {
            Self::Latency { .. } | Self::Throughput { .. } | Self::FromDatabase { .. } => 1,
            Self::Fanout { clients, .. } | Self::Filters { clients, .. } => *clients,
            // The floor's sockets have both of their ends here.
            Self::Broadcast { clients, .. } => 2 * clients,
            Self::Memory { clients } => clients.iter().copied().max().unwrap_or(0),
            Self::All => 10_000,
        }
    }
}
