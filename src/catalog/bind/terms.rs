//! What a wish says, before any table is looked at.

use std::sync::Arc;

use super::{Wish, texts};
use crate::model::filter::{self, Predicate};
use crate::model::{Event, FirstRead, Target};

/// A wish that makes sense in itself.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// Which of the channel's wishes it is.
    pub(super) place: usize,
    pub(super) target: Target,
    pub(super) event: Option<Event>,
    pub(super) predicates: Vec<Predicate>,
    pub(super) select: Option<Arc<[Box<str>]>>,
    /// The rows to be read first.
    pub(super) first: Option<FirstRead>,
}

impl Terms {
    /// Reads a wish; the error is the final text.
    pub(super) fn read((place, wish): (usize, &Wish)) -> Result<Self, String> {
        let filter = wish.filter.as_deref().unwrap_or_default();
        let (schema, table) = (wish.schema.as_deref(), wish.table.as_deref());
        let is_aimed = schema.is_some() && table.is_some();
        let is_named = schema.is_some() || table.is_some();
        if !is_named || (!filter.trim().is_empty() && !is_aimed) {
            return Err(texts::no_params(wish));
        }
        let predicates = filter::parse(filter).map_err(|error| error.to_string())?;
        let select = match &wish.select {
            Some(Err(())) => return Err(texts::BAD_SELECT.to_owned()),
            Some(Ok(names)) if !names.is_empty() => {
                let mut names: Vec<Box<str>> = names.iter().map(|name| (**name).into()).collect();
                names.sort_unstable();
                names.dedup();
                Some(names.into())
            }
            Some(Ok(_)) | None => None,
        };
        let target = match (schema.unwrap_or("public"), table.unwrap_or("*")) {
            ("*", "*") => Target::All,
            (schema, "*") => Target::Schema(schema.into()),
            (schema, table) => Target::Table { schema: schema.into(), table: table.into() },
        };
        let event = event(wish.event.as_deref().unwrap_or("*"));
        let first = wish.first.clone();
        let terms = Self { place, target, event, predicates, select, first };
        let is_wildcard = !matches!(terms.target, Target::Table { .. });
        if is_wildcard && terms.select.is_some() {
            return Err(texts::WILDCARD_SELECT.to_owned());
        }
        if is_wildcard && !terms.predicates.is_empty() {
            let message = "a filter needs one table; give its schema and its name";
            return Err(texts::failed(&terms, "0A000", message));
        }
        if is_wildcard && terms.first.is_some() {
            let message = "a snapshot needs one table; give its schema and its name";
            return Err(texts::failed(&terms, "0A000", message));
        }
        if terms.first.is_some() && terms.event.is_some_and(|event| event != Event::Insert) {
            let message = "the rows of a snapshot are INSERT events; ask for the event * or INSERT";
            return Err(texts::failed(&terms, "0A000", message));
        }
        Ok(terms)
    }

    /// Whether the names are such as Postgres can have; context it for others is an error.
    pub(super) fn names_can_exist(&self) -> bool {
        let can_exist = |name: &str| name.len() <= NAME_LIMIT_BYTES && !name.contains('\0');
        match &self.target {
            Target::Table { schema, table } => can_exist(schema) && can_exist(table),
            Target::Schema(schema) => can_exist(schema),
            Target::All => true,
        }
    }
}

/// Longest name Postgres keeps.
const NAME_LIMIT_BYTES: usize = 63;

/// Words are read without regard to case; an unknown one means all.
fn event(word: &str) -> Option<Event> {
    let all = [Event::Insert, Event::Update, Event::Delete];
    all.into_iter().find(|event| event.word().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(schema: Option<&str>, table: Option<&str>, filter: Option<&str>) -> Wish {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Wish { schema: own(schema), table: own(table), filter: own(filter), ..Wish::default() }
    }

    fn read(wish: &Wish) -> Result<Terms, String> {
        Terms::read((0, wish))
    }

    #[test]
    fn targets_are_named_exactly_or_by_a_star() {
        let table = |schema: &str, table: &str| Target::Table {
            schema: schema.into(),
            table: table.into(),
        };
        for (schema, name, target) in [
            (Some("s"), Some("t"), table("s", "t")),
            (Some("s"), Some("a_b%"), table("s", "a_b%")),
            (None, Some("t"), table("public", "t")),
            (Some("s"), None, Target::Schema("s".into())),
            (Some("s"), Some("*"), Target::Schema("s".into())),
            (None, Some("*"), Target::Schema("public".into())),
            (Some("*"), None, Target::All),
            (Some("*"), Some("*"), Target::All),
        ] {
            let found = read(&wish(schema, name, None)).expect("a good wish").target;
            assert_eq!(found, target);
        }
    }

    #[test]
    fn a_wish_without_a_table_is_told_what_it_said() {
        let start = "No subscription params provided. Please provide at least a `schema` or `table` \
                     to subscribe to: ";
        let mut empty = wish(None, None, Some("a=eq.1"));
        empty.event = Some("INSERT".to_owned());
        let shown = r#"%{"event" => "INSERT", "filter" => "a=eq.1"}"#;
        assert_eq!(read(&empty).expect_err("no table"), format!("{start}{shown}"));
        let half = wish(None, Some("t"), Some("auth_token=eq.1"));
        assert_eq!(read(&half).expect_err("no schema"), format!("{start}<redacted>"));
        assert!(read(&wish(Some("s"), None, Some("a=eq.1"))).is_err());
        assert!(read(&wish(Some("s"), None, Some(" "))).is_ok());
    }

    #[test]
    fn select_is_a_sorted_set_of_one_tables_columns() {
        let select = |names: &[&str]| {
            Some(Ok(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()))
        };
        let mut some = wish(Some("s"), Some("t"), None);
        some.select = select(&["b", "a", "b"]);
        let found = read(&some).expect("a good wish").select.expect("columns");
        assert_eq!(found.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
        some.select = select(&[]);
        assert!(read(&some).expect("a good wish").select.is_none());
        some.select = Some(Err(()));
        assert_eq!(read(&some).expect_err("no list"), texts::BAD_SELECT);
        let mut wildcard = wish(Some("s"), None, None);
        wildcard.select = select(&["a"]);
        assert_eq!(read(&wildcard).expect_err("no table"), texts::WILDCARD_SELECT);
    }

    #[test]
    fn event_words_have_no_case_and_unknown_ones_mean_all() {
        for (word, expected) in [
            ("INSERT", Some(Event::Insert)),
            ("delete", Some(Event::Delete)),
            ("x", None),
            ("*", None),
        ] {
            assert_eq!(event(word), expected);
        }
    }
}
