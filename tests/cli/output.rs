//! What is printed where nobody reads it, and in which form the program says why it ends.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::relay;
use crate::support::relay::SECRET;

/// An end of a pipe whose other end is gone, as behind `| head`.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn configured(arguments: &[&str], secret: &str) -> Command {
    let mut command = relay(arguments);
    command
        .env("RELAY_POSTGRES__URL", "postgres://relay@127.0.0.1:1/app")
        .env("RELAY_HTTP__LISTEN", "127.0.0.1:1")
        .env("RELAY_AUTH__JWT_SECRET", secret);
    command
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    for (arguments, secret, code) in [
        (&["config", "show"][..], SECRET, 0),
        (&["config", "show"], "short", 2),
        (&["config", "defaults"], SECRET, 0),
        (&["token", "mint"], SECRET, 0),
        (&["token", "verify", "nonsense"], SECRET, 2),
        (&["migrate", "--dry-run"], SECRET, 0),
        (&["check"], SECRET, 69),
        (&["check", "--json"], SECRET, 69),
        (&["slot", "status"], SECRET, 69),
        (&["run"], "short", 2),
        (&["run", "--log-format", "json"], "short", 2),
        (&["help"], SECRET, 0),
        (&["nonsense"], SECRET, 2),
    ] {
        let mut command = configured(arguments, secret);
        let status = command.stdout(unread()).stderr(unread()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn the_failure_that_ends_the_program_has_the_form_of_its_log() {
    for (arguments, secret, code, word) in [
        (&["run"][..], "short", 2, "auth.jwt_secret"),
        (&["run", "--log", "off"], "short", 2, "auth.jwt_secret"),
        (&["run", "--log", "relay=loud"], SECRET, 2, "could not read the log filter"),
        (&["run", "--ephemeral"], SECRET, 2, "could not listen"),
        (&["slot", "status"], SECRET, 69, "could not connect"),
    ] {
        let arguments = [&["--log-format", "json"], arguments].concat();
        let mut command = configured(&arguments, secret);
        // An address that nobody has.
        command.env("RELAY_HTTP__LISTEN", "192.0.2.1:4000").stdout(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let read =
            |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{text}"));
        let lines: Vec<Value> = text.lines().map(read).collect();
        assert_eq!(output.status.code(), Some(code), "{text}");
        let last = lines.last().unwrap();
        assert_eq!((&last["level"], &last["exit_code"]), (&"ERROR".into(), &code.into()), "{text}");
        assert!(last["message"].as_str().unwrap().contains(word), "{text}");
        assert_eq!(last["timestamp"].as_str().unwrap().len(), 24, "{text}");
    }
}
