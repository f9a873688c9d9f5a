//! The complaints people come with, and which facts explain them.

use serde_json::{Value, json};

use super::fact::{Fact, Facts, Verdict};

/// A complaint.
struct Symptom {
    /// In the words of the one who complains.
    name: &'static str,
    /// Beginnings of what the facts that explain it are about.
    causes: &'static [&'static str],
    /// What to do when none of them is wrong.
    otherwise: &'static str,
}

/// Without these nothing else could be looked at, so they explain everything.
const ROOTS: [&str; 2] = ["config", "postgres.reachable"];

/// Facts that explain no complaint while they are warnings: a disk may fill one day, or a feature is not set up that may
/// not be wanted.
const SILENT: [&str; 5] =
    ["postgres.keep_size", "limits", "realtime", "relay gaps", "postgres.connections"];

const SYMPTOMS: [Symptom; 5] = [
    Symptom {
        name: "messages do not appear",
        causes: &[
            "postgres",
            "login",
            "publication",
            "table",
            "slot",
            "role",
            "relay",
            "auth",
            "chat",
            "log.dir",
        ],
        otherwise: "watch the table with `relay tail <table>`; if rows show there, compare with \
                    `relay tail <table> --role authenticated --sub <user>`: policies decide the difference, \
                    and the filter of the subscription the rest",
    },
    Symptom {
        name: "agent sees no chats",
        causes: &["agents", "role", "table", "auth", "publication", "chat"],
        otherwise: "see what the agent is shown: `relay tail live_chat_sessions --role authenticated --sub <agent's \
                    user>`; and that the dashboard joins with the agent's token (`relay token verify`), not the anon key",
    },
    Symptom {
        name: "private channel is refused",
        causes: &["realtime", "role", "auth"],
        otherwise: "policies on realtime.messages decide: a channel can be joined by whom a SELECT policy lets read, \
                    where realtime.topic() is the channel's name; and `realtime.send` warns of what it could not send",
    },
    Symptom {
        name: "delayed 2-3 s",
        causes: &["slot", "postgres.delay", "postgres.version", "relay", "table"],
        otherwise: "the relay pushes at commit and does not poll; compare the time `relay tail` prints with the \
                    browser's, and look for a client that still connects to a polling server or re-reads on a timer",
    },
    Symptom {
        name: "connection lost stays",
        causes: &["relay", "auth", "limits", "log.dir"],
        otherwise: "check that the proxy in front passes WebSocket upgrades and idles longer than 60 s, that tokens \
                    are renewed before they expire, and that the browser can reach http.listen (`curl <address>/healthz`)",
    },
];

/// The answers as lines of text.
pub(super) fn lines(facts: &Facts) -> Vec<String> {
    let names = |found: &[&Fact]| {
        found.iter().map(|fact| fact.about.clone()).collect::<Vec<_>>().join(", ")
    };
    let answer = |symptom: &Symptom| {
        let why = match explaining(symptom, facts) {
            (Verdict::Bad, found) => format!("see {}", names(&found)),
            (Verdict::Odd, found) => {
                format!("perhaps {}; if not, {}", names(&found), symptom.otherwise)
            }
            (Verdict::Good, _) => format!("nothing above explains it; {}", symptom.otherwise),
        };
        format!("  “{}”: {why}", symptom.name)
    };
    SYMPTOMS.iter().map(answer).collect()
}

/// The answers as JSON.
pub(super) fn to_json(facts: &Facts) -> Value {
    let answer = |symptom: &Symptom| {
        let (verdict, found) = explaining(symptom, facts);
        let causes: Vec<_> = found.iter().map(|fact| fact.about.as_str()).collect();
        json!({
            "symptom": symptom.name,
            "causes": causes,
            "is_certain": verdict == Verdict::Bad,
            "otherwise": symptom.otherwise,
        })
    };
    SYMPTOMS.iter().map(answer).collect()
}

/// The facts that explain a symptom, and their verdict: the faults; the warnings if there is no fault; else none.
fn explaining<'a>(symptom: &Symptom, facts: &'a Facts) -> (Verdict, Vec<&'a Fact>) {
    for verdict in [Verdict::Bad, Verdict::Odd] {
        let mut found: Vec<_> = facts
            .iter()
            .filter(|fact| fact.verdict == verdict && symptom.is_explained_by(fact))
            .collect();
        found.dedup_by(|one, other| one.about == other.about);
        if !found.is_empty() {
            return (verdict, found);
        }
    }
    (Verdict::Good, Vec::new())
}

impl Symptom {
    fn is_explained_by(&self, fact: &Fact) -> bool {
        let is_about = |cause: &&str| fact.about.starts_with(*cause);
        // A silent warning explains only the complaint that names it whole among its causes.
        let is_silent = |silent: &&str| is_about(silent) && !self.causes.contains(silent);
        ROOTS.iter().chain(self.causes).any(is_about)
            && (fact.verdict == Verdict::Bad || !SILENT.iter().any(is_silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symptom_is_answered_by_name() {
        let text = lines(&Facts::default()).join("\n");
        for name in [
            "messages do not appear",
            "agent sees no chats",
            "private channel is refused",
            "delayed 2-3 s",
            "connection lost stays",
        ] {
            assert!(text.contains(name), "{name}");
        }
    }

    /// Every server that was not set up for the relay has it, and it explains nothing.
    #[test]
    fn a_disk_that_may_fill_hides_no_advice() {
        let mut facts = Facts::default();
        facts.odd("postgres.keep_size", "odd");
        let text = lines(&facts).join("\n");
        assert!(text.contains("“messages do not appear”: nothing above explains it"), "{text}");
    }

    #[test]
    fn a_fault_is_named_before_what_is_odd() {
        let mut facts = Facts::default();
        facts.odd("table public.a", "odd");
        facts.bad("publication p", "bad");
        let text = lines(&facts).join("\n");
        assert!(text.contains("“messages do not appear”: see publication p"), "{text}");
        assert!(
            text.contains("“delayed 2-3 s”: perhaps table public.a; if not, the relay"),
            "{text}"
        );
    }
}
