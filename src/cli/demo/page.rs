//! What a demo says when it has started: where to look, and what to try.

use std::path::{Path, PathBuf};

use super::state::Demo;
use super::talk::People;

/// Tokens to try.
pub(super) struct Tokens {
    pub(super) anon: String,
    pub(super) visitor: String,
    pub(super) agent: String,
}

/// What there is to be said.
pub(super) struct Facts<'a> {
    pub(super) demo: &'a Demo,
    /// Where the throwaway server is, if it is one.
    pub(super) dir: Option<&'a Path>,
    pub(super) people: &'a People,
    pub(super) tokens: &'a Tokens,
    /// The address to open, if there are pages.
    pub(super) open: Option<&'a str>,
    pub(super) talks: bool,
}

/// The page, line by line.
pub(super) fn lines(facts: &Facts<'_>) -> Vec<String> {
    let relay = std::env::args().next().unwrap_or_else(|| "relay".to_owned());
    let database_url = &facts.demo.database_url;
    let visitor = &facts.people.visitor;
    let what = match facts.open {
        Some(url) => format!("\n  Open this    {url}\n"),
        None => without_pages(facts),
    };
    let place = match facts.dir {
        Some(dir) => format!("throwaway, in {}", dir.display()),
        None => "yours; nothing of it is thrown away but the slot".to_owned(),
    };
    let as_visitor = if facts.talks {
        format!("\n  {relay} tail chat_messages --role authenticated --sub {visitor}")
    } else {
        String::new()
    };
    let meanwhile = if facts.talks { " Meanwhile a visitor and an agent talk:" } else { "" };
    let end = if facts.dir.is_some() {
        "Ctrl-C stops everything and leaves nothing behind."
    } else {
        "Ctrl-C stops it."
    };
    format!(
        "{what}
  Postgres     {place}

In a second terminal
  {relay} tail chat_messages
  {relay} tail live_chat_sessions --event UPDATE{as_visitor}
  psql '{database_url}'

{end}{meanwhile}
"
    )
    .lines()
    .map(str::to_owned)
    .collect()
}

/// What developers try who did not build the pages.
fn without_pages(facts: &Facts<'_>) -> String {
    let Demo { address, .. } = facts.demo;
    let http = address.replacen("ws://", "http://", 1);
    let People { visitor, agent, .. } = facts.people;
    let Tokens { anon, visitor: visitor_token, agent: agent_token } = facts.tokens;
    format!(
        "
  relay        {address}/realtime/v1/websocket
  health       {http}/readyz
  no pages     the chat's pages are not built; `make demo` does it where Node is, or name them: --pages DIR

With supabase-js
  createClient('{http}', '{anon}')
  visitor {visitor}
    {visitor_token}
  agent   {agent}
    {agent_token}
"
    )
}

/// Where built pages usually are: below the current directory, beside the program, and in the tree it was built in.
pub(super) fn usual_place() -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let places = [
        std::env::current_dir().ok().map(|dir| dir.join("frontend/dist")),
        beside.map(|dir| dir.join("pages")),
        beside.map(|dir| dir.join("../../frontend/dist")),
    ];
    places.into_iter().flatten().find(|place| place.join("index.html").is_file())
}
