//! The JSON report of `relay check`, read.

use std::process::Output;

use serde::Deserialize;
use serde_json::Value;

/// One fact of a report.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fact {
    pub(super) about: String,
    pub(super) verdict: Verdict,
    pub(super) says: String,
    pub(super) sql: Vec<String>,
    /// What is advised in words.
    #[serde(rename = "do")]
    pub(super) words: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    #[default]
    Fault,
    Warning,
    Ok,
}

/// The facts that `relay check --json` printed, or what it printed instead of a report.
pub(super) fn facts(output: &Output) -> Result<Vec<Fact>, String> {
    let mut report: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
        let [stdout, stderr] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        format!("no report: {stdout}{stderr}")
    })?;
    serde_json::from_value(report["facts"].take()).map_err(|error| format!("{error}: {report}"))
}
