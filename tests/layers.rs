//! The floors: a module uses lower ones and itself, never up, never sideways.
//!
//! Read from the text of `src`, so that the reason for a failure is a line a person can find. Groups
//! (`use crate::{…}`) are refused because they hide what they import.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Lowest first. A module may use modules from lower floors, and itself.
const FLOORS: &[&[&str]] = &[
    &["error", "backoff", "shutdown", "metrics", "secret", "log_rate"],
    &["model"],
    &["memory"],
    &["pgoutput", "router", "rowjson", "config"],
    &["postgres"],
    &["catalog", "changelog"],
    &["auth", "source"],
    &["hub"],
    &["fanout"],
    &["egress"],
    &["server"],
    &["relay"],
    &["cli"],
];

/// Folders whose rooms may not see into one another.
const FLATS: &[&str] = &["egress"];

/// Files that name every floor and belong to none.
const DOORS: &[&str] = &["lib", "main"];

/// The longest a file may be: what one person reads in one sitting.
const LONGEST: usize = 450;

#[test]
fn no_module_uses_a_higher_one_or_a_neighbour() {
    let violations: Vec<String> = sources().iter().flat_map(Source::violations).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_module_has_a_floor() {
    let homeless: Vec<String> = sources()
        .iter()
        .filter(|source| !DOORS.contains(&source.rooms[0].as_str()) && source.floor().is_none())
        .map(Source::name)
        .collect();
    assert!(homeless.is_empty(), "on no floor of tests/layers.rs: {}", homeless.join(", "));
}

#[test]
fn the_keeper_sees_each_kind_of_violation() {
    let of = |file: &str, text: &str| Source::new(Path::new(file), text.to_owned()).violations();
    assert_eq!(of("model/row.rs", "use crate::error::Error;"), Vec::<String>::new());
    assert_eq!(
        of("model/row.rs", "//! See [`crate::cli`].\nuse crate::model::Lsn;"),
        Vec::<String>::new()
    );
    assert_eq!(
        of("hub/mod.rs", "use crate::{error, fanout};"),
        ["hub/mod uses a group: use crate::{…}"]
    );
    assert_eq!(
        of("hub/mod.rs", "let x = crate::fanout::run();"),
        ["hub/mod uses crate::fanout::run"]
    );
    assert_eq!(
        of("router/mod.rs", "use crate::rowjson::Renderer;"),
        ["router/mod uses crate::rowjson::Renderer"]
    );
    assert_eq!(of("error.rs", "use crate::nowhere::X;"), ["error uses crate::nowhere::X"]);
    assert_eq!(
        of(
            "egress/pusher/frame.rs",
            "use crate::egress::phoenix::Frame;\nuse crate::egress::limits::Bucket;"
        ),
        ["egress/pusher/frame uses crate::egress::phoenix"],
    );
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let long: Vec<String> = rust_files()
        .into_iter()
        .map(|path| (lines(&path), path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST}:\n{}", long.join("\n"));
}

/// Addresses and paths of one machine are true nowhere else.
#[test]
fn nothing_shipped_names_a_machine() {
    let mut found = String::new();
    for path in shipped() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            // A lock file names the public index of its packages, which is the same everywhere.
            let line = line.replace("registry+https://github.com/rust-lang/crates.io-index", "");
            // Assembled, so that this file does not find itself.
            for word in [
                "/ro|ot/",
                "/ho|me/",
                "/Us|ers/",
                "/wo|rk/",
                "resol|ved\": \"http",
                "regis|try.npm",
            ] {
                if line.contains(&word.replace('|', "")) {
                    writeln!(found, "{}:{}: {line}", path.display(), number + 1).unwrap();
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// One file of `src`: the rooms that lead to it (`egress`, `phoenix`, `frame`) and its text.
struct Source {
    rooms: Vec<String>,
    text: String,
}

impl Source {
    fn new(path: &Path, text: String) -> Self {
        let rooms = path.with_extension("");
        let rooms = rooms.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        Self { rooms: rooms.collect(), text }
    }

    fn name(&self) -> String {
        self.rooms.join("/")
    }

    fn floor(&self) -> Option<usize> {
        floor_of(&self.rooms[0])
    }

    fn violations(&self) -> Vec<String> {
        if DOORS.contains(&self.rooms[0].as_str()) {
            return Vec::new();
        }
        let code = self.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.flat_map(|line| line.split("crate::").skip(1))
            .filter_map(|rest| self.violation(rest))
            .collect()
    }

    /// What is wrong with a use whose path, after `crate::`, is `rest`.
    fn violation(&self, rest: &str) -> Option<String> {
        if rest.starts_with('{') {
            return Some(format!("{} uses a group: use crate::{{…}}", self.name()));
        }
        let mut path = rest.split("::").map(word);
        let (used, room) = (path.next()?, path.next().unwrap_or_default());
        let own = self.rooms[0].as_str();
        if used == own {
            let flat = self.rooms.get(1).map_or("", String::as_str);
            let is_sideways =
                FLATS.contains(&own) && self.rooms.len() > 2 && is_flat(own, &room) && room != flat;
            return is_sideways.then(|| format!("{} uses crate::{used}::{room}", self.name()));
        }
        let is_lower =
            floor_of(&used).is_some_and(|below| self.floor().is_some_and(|here| below < here));
        (!is_lower).then(|| format!("{} uses crate::{used}::{room}", self.name()))
    }
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The identifier a text begins with.
fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether a room of a folder is a flat, with rooms of its own, and not a file shared by all.
fn is_flat(folder: &str, room: &str) -> bool {
    root().join("src").join(folder).join(room).is_dir()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    files(&src)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            Source::new(path.strip_prefix(&src).unwrap(), std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn rust_files() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        ["src", "tests", "benches"].iter().flat_map(|folder| files(&root().join(folder))).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found
}

/// Everything under version control that a person reads: the top level and the folders, without what is built or fetched.
fn shipped() -> Vec<PathBuf> {
    let top = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let top =
        top.filter(|path| path.is_file() && path.file_name().is_some_and(|name| name != ".git"));
    let folders = ["src", "sql", "tests", "docker", "benches", ".ci"];
    top.chain(folders.iter().flat_map(|folder| files(&root().join(folder)))).collect()
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

/// The files under a folder, without packages that were fetched into it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["node_modules", ".venv", "__pycache__", "target"].contains(&name.as_str()) {
                found.extend(files(&path));
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
