//! The relay's command line: a runtime, a TLS provider, a log, one verb, and an exit code.

use std::process::ExitCode;

use clap::Parser;
use relay::cli::Cli;
use relay::error::{Error, ErrorKind};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let last_words = cli.last_words();
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            last_words.say(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn start(cli: Cli) -> Result<(), Error> {
    cli.start_log()?;
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| Error::new(ErrorKind::Bug, "a TLS provider was installed twice"))?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::new(ErrorKind::Bug, "could not start the runtime").because(cause))?
        .block_on(cli.run())
}
