//! The figures as a Markdown table, with what they were taken on.

use crate::cli::print;
use crate::error::Error;

/// Where there is no floor.
pub(super) const NO_FLOOR: &str = "—";

/// Rows of figures, printed as they come.
#[derive(Debug, Default)]
pub(super) struct Report {
    is_begun: bool,
    notes: Vec<String>,
}

impl Report {
    /// Notes the version of Postgres, once, and begins the table.
    pub(super) fn about(&mut self, postgres: &str) {
        if self.is_begun {
            return;
        }
        self.is_begun = true;
        let command: Vec<_> = std::env::args().skip(1).collect();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let build = if cfg!(debug_assertions) {
            "debug build: figures mean little"
        } else {
            "release build"
        };
        self.say(&format!(
            "`relay {}`: relay {} ({build}), PostgreSQL {postgres}, {cores} cores shared by Postgres, relay and clients.\n",
            command.join(" "),
            env!("CARGO_PKG_VERSION"),
        ));
        self.say("| what | relay | floor: the same without the relay |");
        self.say("|---|---|---|");
    }

    /// One figure and its floor.
    pub(super) fn row(&self, what: &str, figure: &str, floor: &str) {
        self.say(&format!("| {what} | {figure} | {floor} |"));
    }

    /// Something to know about the row before.
    pub(super) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    /// Prints the notes.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn end(self) -> Result<(), Error> {
        print::line("")?;
        self.notes.iter().try_for_each(|note| print::line(&format!("- {note}")))
    }

    /// A reader that went away does not stop a bench half way.
    fn say(&self, text: &str) {
        let _ = print::line(text);
    }
}
