//! The environment on top of the file: `RELAY_SECTION__KEY` for every key, and `DATABASE_URL` as a last resort.
//!
//! An empty variable counts as absent, because that is what `X=${X:-}` in a compose file means. Of a setting and its
//! `_file` twin, the one given in the environment replaces the other given in the file.

use super::Nonsense;
use super::keys::KEYS;
use super::origin::{Origin, Origins};
use super::written::Written;
use crate::secret::Secret;

/// Lays the environment over what the file said.
pub(crate) fn overlay(
    written: &mut Written,
    origins: &mut Origins,
    env: &impl Fn(&str) -> Option<String>,
) -> Vec<Nonsense> {
    let mut faults = Vec::new();
    for key in KEYS {
        let variable = key.variable();
        let Some(text) = env(&variable).filter(|text| !text.is_empty()) else { continue };
        match (key.read)(written, &text) {
            Ok(()) => origins.set(key.dotted, Origin::Environment(variable)),
            Err(reason) => faults.push(Nonsense { key: variable, reason }),
        }
    }
    replace_twins(written, origins);
    let is_homeless = written.postgres.url.is_none() && written.postgres.url_file.is_none();
    if is_homeless && let Some(url) = env("DATABASE_URL").filter(|url| !url.is_empty()) {
        written.postgres.url = Some(Secret::new(url));
        origins.set("postgres.url", Origin::Environment("DATABASE_URL".to_owned()));
    }
    faults
}

/// Forgets the twin from the file where the environment gave the other.
fn replace_twins(written: &mut Written, origins: &mut Origins) {
    let mut is_replaced = |key, twin| {
        let is_replaced = origins.is_environment(key) && !origins.is_environment(twin);
        if is_replaced {
            origins.set(twin, Origin::Default);
        }
        is_replaced
    };
    if is_replaced("postgres.url", "postgres.url_file") {
        written.postgres.url_file = None;
    } else if is_replaced("postgres.url_file", "postgres.url") {
        written.postgres.url = None;
    }
    if is_replaced("auth.jwt_secret", "auth.jwt_secret_file") {
        written.auth.jwt_secret_file = None;
    } else if is_replaced("auth.jwt_secret_file", "auth.jwt_secret") {
        written.auth.jwt_secret = None;
    }
}

/// Variables that look like settings and are none, so that a misspelt one does not go unnoticed.
pub(crate) fn strangers(names: impl Iterator<Item = String>) -> Vec<Nonsense> {
    let is_stranger = |name: &String| {
        name.starts_with("RELAY_")
            && name.contains("__")
            && KEYS.iter().all(|key| key.variable() != *name)
    };
    let fault = |name: String| {
        let variables: Vec<String> = KEYS.iter().map(super::keys::Key::variable).collect();
        let near = super::keys::nearest(&name, variables.iter().map(String::as_str));
        let hint = near.map_or_else(
            || "`relay config defaults` lists all settings".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        Nonsense { key: name, reason: format!("no setting has this name; {hint}") }
    };
    names.filter(is_stranger).map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid_over(variables: &[(&str, &str)]) -> (Written, Origins, Vec<Nonsense>) {
        let (mut written, mut origins) = (Written::default(), Origins::default());
        let env = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let faults = overlay(&mut written, &mut origins, &env);
        (written, origins, faults)
    }

    #[test]
    fn every_key_has_a_variable_that_sets_it() {
        for key in KEYS {
            let (mut written, mut origins) = (Written::default(), Origins::default());
            let env = |name: &str| (name == key.variable()).then(|| "7".to_owned());
            let faults = overlay(&mut written, &mut origins, &env);
            let shown = (key.show)(&written);
            match faults.first() {
                // Times and sizes say that they need a unit, switches that they have two positions.
                Some(fault) => assert!(fault.reason.starts_with("expected "), "{fault}"),
                None if key.is_secret => assert_eq!(shown.as_deref(), Some("‹set›")),
                None => assert_eq!(shown.as_deref(), Some("7"), "{}", key.dotted),
            }
        }
    }

    #[test]
    fn a_list_is_separated_by_commas() {
        let (written, origins, faults) = laid_over(&[("RELAY_AUTH__ROLES", "anon, staff")]);
        assert_eq!(
            (written.auth.roles, faults),
            (vec!["anon".to_owned(), "staff".to_owned()], vec![])
        );
        let origin = Origin::Environment("RELAY_AUTH__ROLES".to_owned());
        assert_eq!(origins.of("auth.roles"), &origin);
    }

    #[test]
    fn database_url_is_the_last_resort() {
        let url = |variables| laid_over(variables).0.postgres.url.map(|url| url.reveal().clone());
        assert_eq!(url(&[("DATABASE_URL", "a")]).as_deref(), Some("a"));
        let both = [("DATABASE_URL", "a"), ("RELAY_POSTGRES__URL", "b")];
        assert_eq!(url(&both).as_deref(), Some("b"));
        assert_eq!(url(&[("DATABASE_URL", "a"), ("RELAY_POSTGRES__URL_FILE", "f")]), None);
        assert_eq!(url(&[("DATABASE_URL", "")]), None);
    }

    #[test]
    fn a_misspelt_variable_is_noticed() {
        let names = ["RELAY_HTTP__LISTEN", "RELAY_HTTP__LISEN", "RELAY_SERVICE_HOST", "X__Y"];
        let faults = strangers(names.map(str::to_owned).into_iter());
        assert_eq!(faults.len(), 1);
        assert_eq!(
            faults[0].to_string(),
            "RELAY_HTTP__LISEN: no setting has this name; did you mean RELAY_HTTP__LISTEN?"
        );
    }
}
