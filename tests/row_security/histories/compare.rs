//! What arrived against what had to.

use std::fmt;

use serde_json::Value;

use super::expect::{Expected, Want};
use super::history::Event;
use super::world::Heard;

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A row reached somebody to whom a select does not show it.
    Leak,
    /// The key of a deleted row reached somebody who may not learn of it.
    DeletionLeak,
    /// That a hidden row changed was told, though not what it is.
    Announced,
    /// A row that a select shows did not come, and nothing was said.
    Lost,
    /// A row that could have been judged was withheld.
    Withheld,
    /// A row came with other contents.
    Contents,
    /// More was withheld than the relay counts.
    Uncounted,
    /// What everybody may see did not arrive.
    Stalled,
}

/// One thing that was not as it must be.
#[derive(Clone, Debug)]
pub struct Fault {
    pub class: Class,
    pub seed: u64,
    pub who: String,
    pub detail: String,
    /// What the history was about, and the change.
    pub tags: Vec<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, seed, who, detail, tags } = self;
        write!(f, "{class:?} for {who}, RIGHTS_SEED={seed}: {detail}\n    about {}", tags.join(" "))
    }
}

/// How it went for one subscriber in one channel.
#[derive(Debug, Default)]
pub struct Comparison {
    pub faults: Vec<(Class, String, Vec<String>)>,
    pub delivered: u64,
    pub hidden: u64,
    /// Judged by rights of before, which may be in force for a while.
    pub late: u64,
    /// Withheld and told, by excuse.
    pub withheld: Vec<&'static str>,
    /// Withheld and told, without one.
    pub withheld_without: u64,
}

/// Whether what arrived is what had to, in this order.
///
/// Events without a row are alike, so they may be of a change that might have been withheld or of one after it: what
/// arrived is right when it is right for one of these.
pub fn compare(expected: &[Expected], heard: &[Heard]) -> Comparison {
    let first = compare_with(expected, heard, Alike::First);
    if first.faults.is_empty() {
        return first;
    }
    let due = compare_with(expected, heard, Alike::Due);
    if due.faults.len() < first.faults.len() { due } else { first }
}

/// Which change an event is taken for that fits several.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alike {
    /// The first of them.
    First,
    /// The first that must not be withheld, if there is one.
    Due,
}

fn compare_with(expected: &[Expected], heard: &[Heard], alike: Alike) -> Comparison {
    let mut result = Comparison::default();
    let wants: Vec<&Want> = expected
        .iter()
        .filter_map(|one| match one {
            Expected::Want(want) => Some(&**want),
            Expected::Nothing { .. } => None,
        })
        .collect();
    result.hidden = (expected.len() - wants.len()) as u64;
    let (mut next, mut told) = (0, Vec::new());
    for one in heard {
        let data = match one {
            Heard::Told(text) => {
                told.push(text.clone());
                continue;
            }
            Heard::Change(data) => data,
        };
        let left = &wants[next..];
        let due = left.iter().position(|want| want.excuse.is_none() && fits(want, data));
        let exact = due
            .filter(|_| alike == Alike::Due)
            .or_else(|| left.iter().position(|want| fits(want, data)));
        if let Some(at) = exact.or_else(|| left.iter().position(|want| is_meant(want, data))) {
            missing(&mut result, &left[..at], &told);
            told.clear();
            next += at + 1;
            result.delivered += 1;
            let want = left[at];
            if exact.is_none() && want.is_late {
                result.late += 1;
            } else if exact.is_none() {
                let detail = format!("expected {}\n    got {}", wanted(want), short(data));
                result.faults.push((Class::Contents, detail, want.tags.clone()));
            }
        } else {
            match unwanted(expected, data) {
                Some(fault) => result.faults.push(fault),
                None => result.late += 1,
            }
        }
    }
    missing(&mut result, &wants[next..], &told);
    result
}

/// Takes down what did not come between two changes that did.
fn missing(result: &mut Comparison, wants: &[&Want], told: &[String]) {
    for want in wants {
        if told.is_empty() && want.is_late {
            result.late += 1;
        } else if told.is_empty() {
            let detail = format!("expected {}\n    got nothing, told nothing", wanted(want));
            result.faults.push((Class::Lost, detail, want.tags.clone()));
        } else if let Some(excuse) = want.excuse {
            result.withheld.push(excuse);
        } else {
            result.withheld_without += 1;
            let detail = format!("expected {}\n    was told {told:?}", wanted(want));
            result.faults.push((Class::Withheld, detail, want.tags.clone()));
        }
    }
}

fn fits(want: &Want, data: &Value) -> bool {
    if !is_same_kind(want, data) {
        return false;
    }
    if let Some(problem) = want.problem {
        return data["errors"] == Value::from(vec![problem])
            && data["record"] == serde_json::json!({});
    }
    let record = want.record.as_ref().is_none_or(|told| told.fits(&data["record"]));
    let old = want.old.as_ref().is_none_or(|told| told.fits(&data["old_record"]))
        || want.cut.as_ref().is_some_and(|told| told.fits(&data["old_record"]));
    record && old && data["errors"].is_null()
}

fn is_same_kind(want: &Want, data: &Value) -> bool {
    data["type"] == want.event.word() && data["table"] == *want.table
}

/// Whether the change is the wanted one, whatever it says: it has its version, or nothing that contradicts it.
fn is_meant(want: &Want, data: &Value) -> bool {
    let (side, told) = match want.event {
        Event::Delete => ("old_record", &want.old),
        Event::Insert | Event::Update => ("record", &want.record),
    };
    let agrees = |(name, value): (&String, &Value)| {
        told.as_ref().is_some_and(|told| told.value(name) == Some(value))
    };
    let is_known = match &data[side]["ver"] {
        Value::Null => {
            data[side].as_object().is_some_and(|got| !got.is_empty() && got.iter().all(agrees))
        }
        ver => *ver == want.ver,
    };
    is_same_kind(want, data) && is_known
}

fn wanted(want: &Want) -> String {
    let side = |side: &Option<super::expect::Told>| {
        side.as_ref().map_or("-".to_owned(), |told| {
            let must = short(&Value::Object(told.must.clone()));
            if told.may.is_empty() {
                must
            } else {
                format!("{must} perhaps {}", short(&Value::Object(told.may.clone())))
            }
        })
    };
    let problem = want.problem.unwrap_or_default();
    format!(
        "{} of {} version {} {problem}: record {}, old {}",
        want.event.word(),
        want.table,
        want.ver,
        side(&want.record),
        side(&want.old)
    )
}

/// A change that nothing asked for; nothing if all that it can be may be judged by the rights of before.
fn unwanted(expected: &[Expected], data: &Value) -> Option<(Class, String, Vec<String>)> {
    let is_delete = data["type"] == "DELETE";
    let is_problem = !data["errors"].is_null();
    let side = if is_delete { "old_record" } else { "record" };
    let ver = data[side]["ver"].as_u64();
    let mut why = String::new();
    let (mut about, mut lateness) = (Vec::new(), Vec::new());
    for one in expected {
        let Expected::Nothing { ver: own, event, why: reason, is_late, tags } = one else {
            continue;
        };
        if data["type"] == event.word() && (ver.is_none() || ver == Some(*own)) {
            why.push_str(&format!("{reason} for version {own}; "));
            about.extend(tags.iter().cloned());
            lateness.push(*is_late);
        }
    }
    if !lateness.is_empty() && lateness.iter().all(|is_late| *is_late) {
        return None;
    }
    about.sort();
    about.dedup();
    let class = match (is_problem, is_delete && ver.is_none()) {
        (true, _) => Class::Announced,
        (false, true) => Class::DeletionLeak,
        (false, false) => Class::Leak,
    };
    Some((class, format!("expected nothing: {why}\n    got {}", short(data)), about))
}

/// JSON with its long texts cut.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) if 60 < text.len() => {
            let start: String = text.chars().take(12).collect();
            format!("\"{start}…\" of {}", text.len())
        }
        Value::Object(map) => {
            let fields: Vec<String> = map
                .iter()
                .filter(|(name, _)| !name.starts_with("many") || *name == "many0")
                .map(|(name, value)| format!("{name}: {}", short(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(list) if 4 < list.len() => format!("[{} of them]", list.len()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::expect::Told;
    use super::*;

    fn want(ver: u64, excuse: Option<&'static str>, is_late: bool) -> Expected {
        let record = json!({ "id": ver, "ver": ver }).as_object().unwrap().clone();
        let record = Some(Told { must: record, ..Told::default() });
        let (event, table) = (Event::Insert, "t".to_owned());
        let (old, cut, problem, tags) = (None, None, None, Vec::new());
        Expected::Want(Box::new(Want {
            event,
            table,
            ver,
            record,
            old,
            cut,
            problem,
            excuse,
            is_late,
            tags,
        }))
    }

    fn hidden(ver: u64, is_late: bool) -> Expected {
        let (event, why, tags) = (Event::Insert, String::new(), Vec::new());
        Expected::Nothing { ver, event, why, is_late, tags }
    }

    fn row(ver: u64, id: u64) -> Heard {
        let record = json!({ "id": id, "ver": ver });
        Heard::Change(json!({ "type": "INSERT", "table": "t", "record": record, "errors": null }))
    }

    fn told() -> Heard {
        Heard::Told("withheld".to_owned())
    }

    fn classes(expected: &[Expected], heard: &[Heard]) -> Vec<Class> {
        compare(expected, heard).faults.into_iter().map(|(class, ..)| class).collect()
    }

    #[test]
    fn each_kind_of_fault_is_seen_as_what_it_is() {
        let both = || [want(1, None, false), want(2, None, false), hidden(9, false)];
        assert_eq!(classes(&both(), &[row(1, 1), row(2, 2)]), []);
        assert_eq!(classes(&both(), &[row(1, 1), row(9, 9), row(2, 2)]), [Class::Leak]);
        assert_eq!(classes(&both(), &[row(2, 2)]), [Class::Lost]);
        assert_eq!(classes(&both(), &[row(1, 7), row(2, 2)]), [Class::Contents]);
        assert_eq!(classes(&both(), &[row(1, 1), told()]), [Class::Withheld]);
        // Told before what came in between is not told of what is missing after it.
        assert_eq!(classes(&both(), &[told(), row(1, 1)]), [Class::Lost]);
        assert_eq!(classes(&both(), &[row(2, 2), row(1, 1)]), [Class::Lost, Class::Leak]);
        assert_eq!(classes(&both(), &[row(1, 1), row(1, 1), row(2, 2)]), [Class::Leak]);
        let excused = [want(1, Some("a reason"), false), want(2, None, false)];
        assert_eq!(classes(&excused, &[told(), row(2, 2)]), []);
        assert_eq!(classes(&excused, &[row(2, 2)]), [Class::Lost]);
    }

    #[test]
    fn an_event_without_a_row_is_of_any_change_that_it_explains() {
        let problem = |ver, excuse| {
            let Expected::Want(mut want) = want(ver, excuse, false) else { unreachable!() };
            (want.record, want.problem) = (None, Some("Error 401: Unauthorized"));
            Expected::Want(want)
        };
        let both = || [problem(1, Some("a reason")), problem(2, None)];
        let event = || {
            let errors = ["Error 401: Unauthorized"];
            Heard::Change(json!({ "type": "INSERT", "table": "t", "record": {}, "errors": errors }))
        };
        assert_eq!(classes(&both(), &[told(), event()]), []);
        assert_eq!(classes(&both(), &[event(), event()]), []);
        assert_eq!(classes(&both(), &[event()]), [Class::Lost]);
        assert_eq!(classes(&both(), &[told()]), [Class::Withheld]);
        assert_eq!(classes(&both(), &[event(), told()]), [Class::Withheld]);
    }

    #[test]
    fn what_may_be_late_is_counted_and_is_no_fault() {
        let expected =
            || [want(1, None, true), want(2, None, false), hidden(8, true), hidden(9, false)];
        let late = |heard: &[Heard]| {
            let result = compare(&expected(), heard);
            let classes: Vec<Class> = result.faults.iter().map(|(class, ..)| *class).collect();
            (result.late, classes)
        };
        assert_eq!(late(&[row(1, 1), row(2, 2)]), (0, vec![]));
        assert_eq!(late(&[row(2, 2)]), (1, vec![]));
        assert_eq!(late(&[row(1, 7), row(2, 2)]), (1, vec![]));
        assert_eq!(late(&[row(1, 1), row(2, 2), row(8, 8)]), (1, vec![]));
        assert_eq!(
            late(&[row(1, 1), row(2, 7), row(9, 9)]),
            (0, vec![Class::Contents, Class::Leak])
        );
        assert_eq!(late(&[row(1, 1)]), (0, vec![Class::Lost]));
        assert_eq!(late(&[told(), row(2, 2)]), (0, vec![Class::Withheld]));
    }
}
