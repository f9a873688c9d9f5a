//! The attacks, each bounded: what one address did harm with, and whom it harmed beside those who wait for rows.

mod computing;
mod connections;
mod memory;
mod noise;

use super::attackers::{Attacking, Target};
use super::probes::Bystander;

/// One attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub name: &'static str,
    pub run: fn(Target) -> Attacking,
    pub bystander: Bystander,
    /// Tables of its own.
    pub tables: &'static str,
    /// Whether it needs the schema of private channels.
    pub has_private: bool,
    /// Settings of the relay without which there is nothing to attack.
    pub settings: &'static [(&'static str, &'static str)],
    /// Settings that make a short attack reach a limit.
    pub short_settings: &'static [(&'static str, &'static str)],
}

const USUAL: Attack = Attack {
    name: "",
    run: noise::junk,
    bystander: Bystander::Newcomer,
    tables: "",
    has_private: false,
    settings: &[],
    short_settings: &[],
};

const CHAT: &[(&str, &str)] = &[("RELAY_CHAT__PRESET", "gre")];

/// A policy that many have, and that fails for a topic which is no id.
const BY_ID: &str = "create policy by_id on realtime.messages for select to anon
                     using (realtime.topic()::uuid is not null)";

/// So little memory that a short attack is over its share.
const LITTLE: &[(&str, &str)] = &[
    ("RELAY_LIMITS__MEMORY", "16 MiB"),
    ("RELAY_LIMITS__FRAME", "600 KiB"),
    ("RELAY_LIMITS__BROADCAST_PAYLOAD", "300 KiB"),
];

/// The same, for filters.
const LEAST: &[(&str, &str)] = &[
    ("RELAY_LIMITS__MEMORY", "4 MiB"),
    ("RELAY_LIMITS__FRAME", "110 KiB"),
    ("RELAY_LIMITS__BROADCAST_PAYLOAD", "60 KiB"),
];

/// All of them.
pub const ALL: &[Attack] = &[
    Attack { name: "unfinished frames", run: memory::unfinished, short_settings: LITTLE, ..USUAL },
    Attack { name: "presences", run: memory::presences, short_settings: LITTLE, ..USUAL },
    Attack { name: "wishes", run: memory::filters, short_settings: LEAST, ..USUAL },
    Attack { name: "match patterns", run: memory::patterns, ..USUAL },
    Attack { name: "like filters", run: computing::likes, ..USUAL },
    Attack {
        name: "tokens of one user",
        run: computing::tokens,
        short_settings: &[("RELAY_POSTGRES__CHECK_TIMEOUT", "300ms")],
        ..USUAL
    },
    Attack { name: "regexps at joins", run: computing::joins, ..USUAL },
    Attack {
        name: "snapshots",
        run: computing::snapshots,
        bystander: Bystander::Reader,
        tables: include_str!("../archive.sql"),
        ..USUAL
    },
    Attack { name: "silent connections", run: connections::silent, ..USUAL },
    Attack { name: "slow bodies", run: connections::bodies, bystander: Bystander::Server, ..USUAL },
    Attack {
        name: "broadcasts by HTTP",
        run: connections::broadcasts,
        bystander: Bystander::Server,
        short_settings: &[("RELAY_LIMITS__HTTP_MESSAGES_PER_SECOND", "10")],
        ..USUAL
    },
    Attack {
        name: "strangers in the chat",
        run: connections::unauthenticated,
        bystander: Bystander::Visitor,
        tables: include_str!("../chat.sql"),
        settings: CHAT,
        short_settings: &[("RELAY_LIMITS__CONNECTIONS", "128")],
        ..USUAL
    },
    Attack { name: "junk frames", run: noise::junk, ..USUAL },
    Attack { name: "heartbeats", run: noise::heartbeats, ..USUAL },
    Attack {
        name: "refused joins",
        run: noise::refused_joins,
        has_private: true,
        tables: BY_ID,
        ..USUAL
    },
];

/// The attack with a name.
pub fn named(name: &str) -> Attack {
    *ALL.iter().find(|attack| attack.name == name).expect(name)
}
