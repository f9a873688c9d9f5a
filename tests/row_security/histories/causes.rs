//! What a fault may come of: the things about its change that are hard to judge. One that has a single cause points at it.

use super::compare::{Class, Fault};

/// A cause, and the marks of a change that make it possible.
struct Cause {
    name: &'static str,
    classes: &'static [Class],
    marks: &'static [&'static str],
}

const MISSED: &[Class] = &[Class::Lost, Class::Withheld];
const WRONG: &[Class] = &[Class::Lost, Class::Withheld, Class::Contents];
const LEAKS: &[Class] = &[Class::Leak];
const ROWS: &[Class] = &[Class::Leak, Class::Lost, Class::Withheld];

const CAUSES: &[Cause] = &[
    Cause { name: "settings of the role", classes: ROWS, marks: &["settings"] },
    Cause {
        name: "an unchanged value that the policy does not read",
        classes: MISSED,
        marks: &["unchanged-unread"],
    },
    Cause {
        name: "an unchanged value that the policy reads",
        classes: MISSED,
        marks: &["unchanged-read"],
    },
    Cause {
        name: "generated from an unchanged value",
        classes: &[Class::Contents],
        marks: &["unchanged-unread", "unchanged-read"],
    },
    Cause { name: "a function in a hidden schema", classes: MISSED, marks: &["HiddenFunction"] },
    Cause {
        name: "a type in a hidden schema",
        classes: WRONG,
        marks: &["HiddenType", "hidden-type"],
    },
    Cause { name: "a system column", classes: MISSED, marks: &["TableOid"] },
    Cause { name: "a column that is not published", classes: WRONG, marks: &["unpublished"] },
    Cause { name: "a JSON null", classes: MISSED, marks: &["json-null"] },
    Cause { name: "a NUL in JSON", classes: MISSED, marks: &["json-nul"] },
    Cause { name: "a table made again", classes: WRONG, marks: &["recreated", "after-recreated"] },
    Cause { name: "a key stored out of line", classes: WRONG, marks: &["long-key"] },
    Cause { name: "a generated column of a domain", classes: WRONG, marks: &["domain-generated"] },
    Cause { name: "a domain that refuses nulls", classes: WRONG, marks: &["domain-not-null"] },
    Cause { name: "a domain whose check the row breaks", classes: WRONG, marks: &["breaks-check"] },
    Cause { name: "many generated columns", classes: WRONG, marks: &["many-generated"] },
    Cause { name: "a deletion", classes: LEAKS, marks: &["DELETE"] },
    Cause { name: "what a policy leaves behind", classes: ROWS, marks: &["LeavesSetting"] },
    Cause { name: "a policy that raises", classes: MISSED, marks: &["Raises"] },
    Cause { name: "rights of a partitioned table", classes: ROWS, marks: &["shift-of-parent"] },
    Cause { name: "usage of a schema", classes: ROWS, marks: &["UsageRevoked"] },
    Cause { name: "bypassing row security", classes: ROWS, marks: &["BypassLost"] },
    Cause { name: "membership of a role", classes: ROWS, marks: &["MembershipLost"] },
    Cause { name: "other rights that changed", classes: ROWS, marks: &["shift"] },
    Cause { name: "a place right after rights changed", classes: ROWS, marks: &["since-shift"] },
    Cause { name: "a place", classes: ROWS, marks: &["since"] },
];

/// The causes that a fault may have.
pub fn of(fault: &Fault) -> Vec<&'static str> {
    // Whatever else there is, these two say what they come of.
    match fault.class {
        Class::Announced => return vec!["a row whose key is missing or may not be read"],
        Class::DeletionLeak => return vec!["a deletion"],
        _ => {}
    }
    let has = |mark: &&str| fault.tags.iter().any(|tag| tag == mark);
    let fits = |cause: &&Cause| cause.classes.contains(&fault.class) && cause.marks.iter().any(has);
    CAUSES.iter().filter(fits).map(|cause| cause.name).collect()
}
