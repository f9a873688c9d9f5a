//! What a demo says when it has started: what runs where, and what to try.

use std::path::Path;

use super::state::Demo;
use super::talk::People;

/// Tokens to try.
pub(super) struct Tokens {
    pub(super) anon: String,
    pub(super) visitor: String,
    pub(super) agent: String,
}

/// The page, line by line.
pub(super) fn lines(demo: &Demo, dir: &Path, people: &People, tokens: &Tokens) -> Vec<String> {
    let relay = std::env::args().next().unwrap_or_else(|| "relay".to_owned());
    let http = demo.address.replacen("ws://", "http://", 1);
    let Demo { address, database_url, .. } = demo;
    let People { visitor, agent, .. } = people;
    let Tokens { anon, visitor: visitor_token, agent: agent_token } = tokens;
    format!(
        "
  Postgres   throwaway, in {dir}
  relay      {address}/realtime/v1/websocket
  health     {http}/readyz

In a second terminal
  {relay} tail chat_messages
  {relay} tail live_chat_sessions --event UPDATE
  {relay} tail chat_messages --role authenticated --sub {visitor}
  psql '{database_url}'

With supabase-js
  createClient('{http}', '{anon}')
  visitor {visitor}
    {visitor_token}
  agent   {agent}
    {agent_token}

Ctrl-C stops everything and leaves nothing behind. Meanwhile a visitor and an agent talk:
",
        dir = dir.display()
    )
    .lines()
    .map(str::to_owned)
    .collect()
}
