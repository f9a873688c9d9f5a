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
pub(crate) fn strangers(
    variables: impl Iterator<Item = (String, String)>,
    known: &[String],
) -> Vec<Nonsense> {
    let is_stranger = |name: &str, value: &str| {
        name.starts_with("RELAY_")
            && !value.is_empty()
            && KEYS.iter().all(|key| key.variable() != name)
            && known.iter().all(|known| known != name)
            && !is_of_a_service(name, value)
    };
    let fault = |name: String| {
        let hint = meant(&name).map_or_else(
            || "`relay config defaults` lists all settings".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        Nonsense { key: name, reason: format!("no setting has this name; {hint}") }
    };
    variables
        .filter(|(name, value)| is_stranger(name, value))
        .map(|(name, _)| fault(name))
        .collect()
}

/// Whether Kubernetes sets this variable in every container beside a service whose name begins with `relay`.
fn is_of_a_service(name: &str, value: &str) -> bool {
    let is_of_a_port = |rest: &str| {
        let (number, protocol) = rest.split_once('_').unwrap_or((rest, ""));
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && ["TCP", "UDP", "SCTP"].iter().any(|known| protocol.starts_with(known))
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && value.contains("://")
        || name.rsplit_once("_PORT_").is_some_and(|(_, rest)| is_of_a_port(rest))
}

/// The variable that somebody probably meant: the same but for underscores, a key without its section, or a similar one.
fn meant(name: &str) -> Option<String> {
    let squeezed = |name: &str| name.replace('_', "");
    let variables: Vec<String> = KEYS.iter().map(super::keys::Key::variable).collect();
    if let Some(same) = variables.iter().find(|known| squeezed(known) == squeezed(name)) {
        return Some(same.clone());
    }
    let rest = name.strip_prefix("RELAY_").unwrap_or(name).trim_matches('_').to_ascii_lowercase();
    if let Some(key) = KEYS.iter().find(|key| key.name == rest) {
        return Some(key.variable());
    }
    super::keys::nearest(name, variables.iter().map(String::as_str)).map(str::to_owned)
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
    fn a_variable_that_is_no_setting_is_noticed_and_what_was_meant_is_named() {
        for (name, meant) in [
            ("RELAY_HTTP__LISEN", "did you mean RELAY_HTTP__LISTEN?"),
            ("RELAY_HTTP_LISTEN", "did you mean RELAY_HTTP__LISTEN?"),
            ("RELAY_AUTH_JWT_SECRET", "did you mean RELAY_AUTH__JWT_SECRET?"),
            ("RELAY_JWT_SECRET", "did you mean RELAY_AUTH__JWT_SECRET?"),
            ("RELAY_LISTEN", "did you mean RELAY_HTTP__LISTEN?"),
            ("RELAY_HTTP_PORT", "`relay config defaults` lists all settings"),
            ("RELAY_WHATEVER_ELSE_THERE_MAY_BE", "`relay config defaults` lists all settings"),
        ] {
            let faults = strangers([(name.to_owned(), "4000".to_owned())].into_iter(), &[]);
            let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
            assert_eq!(told, [format!("{name}: no setting has this name; {meant}")]);
        }
    }

    #[test]
    fn what_is_not_ours_is_passed_over() {
        let variables = [
            ("RELAY_HTTP__LISTEN", "x"),
            ("RELAY_CONFIG", "x"),
            ("RELAY_HTTP_LISTEN", ""),
            ("RELAY_SERVICE_HOST", "10.0.0.1"),
            ("RELAY_SERVICE_PORT_HTTP", "4000"),
            ("RELAY_PORT", "tcp://10.0.0.1:4000"),
            ("RELAY_METRICS_PORT_9464_TCP_ADDR", "10.0.0.1"),
            ("RELAY_PORT_4000_TCP", "tcp://10.0.0.1:4000"),
            ("X__Y", "x"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(strangers(variables.into_iter(), &["RELAY_CONFIG".to_owned()]), []);
    }
}
