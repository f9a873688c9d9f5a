//! The built program, run to its end.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// Runs the program with these arguments and nothing configured; its exit code, and what it printed: standard output, then
/// standard error.
pub fn run(arguments: &[&str]) -> (Option<i32>, String) {
    run_with(arguments, [("", ""); 0])
}

/// The same with these variables.
pub fn run_with(
    arguments: &[&str],
    variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    let settings = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("RELAY_"));
    for name in settings.chain(["DATABASE_URL".to_owned()]) {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } = command
        .args(arguments)
        .envs(variables)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout) + &text(stderr))
}
