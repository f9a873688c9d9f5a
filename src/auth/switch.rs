//! Switching, within a statement, between the settings of a role and those that values are rendered under.

use crate::postgres::PINNED;
use crate::postgres::quote::literal;

/// SQL of calls that set what is pinned for the rest of the transaction, and of calls that set it back to `own`, the values
/// of the pinned settings in their order; a number each where values read the same anyway.
pub(super) fn calls(own: &[String]) -> (String, String) {
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for ((name, pinned), own) in PINNED.iter().zip(own) {
        if differs(name, pinned, own) {
            there.push(call(name, pinned));
            back.push(call(name, own));
        }
    }
    let list = |calls: Vec<String>| {
        if calls.is_empty() { "0".to_owned() } else { calls.join(", ") }
    };
    (list(there), list(back))
}

/// Whether values read differently.
fn differs(name: &str, pinned: &str, own: &str) -> bool {
    match name {
        "datestyle" => !own.starts_with("ISO"),
        // Above 0 all say the same.
        "extra_float_digits" => own.parse::<i32>().map_or(true, |digits| digits < 1),
        "timezone" => !["UTC", "Etc/UTC", "GMT"].contains(&own),
        _ => own != pinned,
    }
}

fn call(name: &str, value: &str) -> String {
    format!("pg_catalog.set_config({}, {}, true)", literal(name), literal(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_differently_is_switched() {
        let own = |settings: [&str; 5]| settings.map(str::to_owned).to_vec();
        let usual = own(["ISO, MDY", "postgres", "1", "hex", "Etc/UTC"]);
        assert_eq!(calls(&usual), ("0".to_owned(), "0".to_owned()));
        let elsewhere = own(["ISO, DMY", "postgres", "0", "hex", "Europe/Oslo"]);
        let (there, back) = calls(&elsewhere);
        assert_eq!(
            there,
            "pg_catalog.set_config('extra_float_digits', '3', true), pg_catalog.set_config('timezone', 'UTC', true)"
        );
        assert!(back.ends_with("pg_catalog.set_config('timezone', 'Europe/Oslo', true)"), "{back}");
    }
}
