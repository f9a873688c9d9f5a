//! What binding needs to know of columns beyond the cached table: names for SQL, own operators, collations.

use futures_util::FutureExt as _;
use tokio_postgres::types::Type;

use super::{BindContext, Filtered, Unbound};
use crate::catalog::Catalog;
use crate::model::filter::{Collation, Spelling};

/// One column.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) spelling: Spelling,
    pub(super) collation: Collation,
    /// The schema of its type, as SQL has it.
    pub(super) schema: Box<str>,
    /// The type as error texts name it (`character varying`).
    pub(super) shown_type: String,
    /// Its type brings a `~~` operator of its own (`citext`).
    pub(super) has_like: bool,
    /// Its type brings a `~` operator of its own.
    pub(super) has_match: bool,
}

/// Asks for all columns at once, in order; `None` for a column that is gone.
pub(super) async fn ask(
    catalog: &Catalog,
    context: BindContext<'_>,
    columns: &[Filtered],
) -> Result<Vec<Option<Facts>>, Unbound> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let tables: Vec<u32> = columns.iter().map(|column| column.table).collect();
    let names: Vec<String> =
        columns.iter().map(|column| column.predicate.column.clone().into()).collect();
    let types: Vec<u32> = columns.iter().map(|column| column.sql_type.base().oid).collect();
    let found = catalog
        .probes
        .ask(context.caller, |client| {
            let (tables, names, types) = (tables.clone(), names.clone(), types.clone());
            async move {
                let sql = include_str!("../../../sql/queries/bind_columns.sql");
                let rows = client
                    .query_typed(
                        sql,
                        &[
                            (&tables, Type::OID_ARRAY),
                            (&names, Type::TEXT_ARRAY),
                            (&types, Type::OID_ARRAY),
                        ],
                    )
                    .await?;
                let read =
                    |row: &tokio_postgres::Row| Ok((row.try_get::<_, i64>("place")?, facts(row)?));
                rows.iter().map(read).collect::<Result<Vec<_>, tokio_postgres::Error>>()
            }
            .boxed()
        })
        .await?;
    let mut facts = vec![None; columns.len()];
    for (place, found) in found {
        let slot = usize::try_from(place - 1).ok().and_then(|place| facts.get_mut(place));
        if let Some(slot) = slot {
            *slot = Some(found);
        }
    }
    Ok(facts)
}

/// The leaf partitions of a partitioned table; none for any other.
pub(super) async fn leaves(
    catalog: &Catalog,
    context: BindContext<'_>,
    table: u32,
) -> Result<Vec<u32>, Unbound> {
    let ask = catalog.probes.ask(context.caller, |client| {
        async move {
            let sql = include_str!("../../../sql/queries/bind_leaves.sql");
            let rows = client.query_typed(sql, &[(&table, Type::OID)]).await?;
            rows.iter().map(|row| row.try_get("oid")).collect()
        }
        .boxed()
    });
    Ok(ask.await?)
}

fn facts(row: &tokio_postgres::Row) -> Result<Facts, tokio_postgres::Error> {
    let own_text = |name| -> Result<Option<Box<str>>, tokio_postgres::Error> {
        Ok(row.try_get::<_, Option<String>>(name)?.map(Into::into))
    };
    let locale = Locale {
        provider: row.try_get("provider")?,
        order: row.try_get("locale_order")?,
        letters: row.try_get("locale_letters")?,
        is_deterministic: row.try_get("is_deterministic")?,
        encoding: row.try_get("encoding")?,
    };
    Ok(Facts {
        spelling: Spelling {
            type_name: row.try_get::<_, String>("type_name")?.into(),
            operators: own_text("operators")?,
            collation: own_text("collation")?,
        },
        collation: locale.collation(),
        schema: row.try_get::<_, String>("type_schema")?.into(),
        shown_type: row.try_get("shown_type")?,
        has_like: row.try_get("has_like")?,
        has_match: row.try_get("has_match")?,
    })
}

/// A collation as the catalog describes it; all empty for a type without one.
struct Locale {
    /// `c` libc, `i` ICU, `b` built in.
    provider: Option<String>,
    /// The locale that orders text.
    order: Option<String>,
    /// The locale that knows letters and their case.
    letters: Option<String>,
    is_deterministic: Option<bool>,
    encoding: String,
}

/// Languages in which `i` and `I` are different letters.
const DOTTED: [&str; 6] = ["tr", "az", "crh", "ku", "tt", "lt"];

impl Locale {
    fn collation(&self) -> Collation {
        let Some(provider) = &self.provider else { return Collation::Bytes };
        if self.is_deterministic == Some(false) {
            return Collation::Nondeterministic;
        }
        let name = |locale: &Option<String>| locale.clone().unwrap_or_default();
        let letters = name(&self.letters).to_ascii_lowercase();
        let language = letters.split(['_', '-', '.', '@']).next().unwrap_or_default();
        if DOTTED.contains(&language) || language == "turkish" || language == "azerbaijani" {
            return Collation::DottedLocale;
        }
        let is_plain = matches!(&*name(&self.order), "C" | "POSIX");
        let is_by_bytes = provider == "b" || (provider == "c" && is_plain);
        // Texts are compared here in UTF-8, whose byte order is that of these encodings.
        let is_ordered_alike = matches!(&*self.encoding, "UTF8" | "LATIN1" | "SQL_ASCII");
        if is_by_bytes && is_ordered_alike { Collation::Bytes } else { Collation::Locale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(provider: &str, order: &str, letters: &str, expected: Collation) {
        let some = |text: &str| Some(text.to_owned());
        let locale = Locale {
            provider: some(provider),
            order: some(order),
            letters: some(letters),
            is_deterministic: Some(true),
            encoding: "UTF8".to_owned(),
        };
        assert_eq!(locale.collation(), expected, "{provider} {order} {letters}");
    }

    #[test]
    fn only_plain_locales_order_by_bytes() {
        check("c", "C", "C", Collation::Bytes);
        check("c", "POSIX", "en_US.UTF-8", Collation::Bytes);
        check("b", "C.UTF-8", "C.UTF-8", Collation::Bytes);
        check("c", "en_US.UTF-8", "en_US.UTF-8", Collation::Locale);
        check("c", "C.UTF-8", "C.UTF-8", Collation::Locale);
        check("i", "en-US", "en-US", Collation::Locale);
        check("i", "und", "und", Collation::Locale);
    }

    #[test]
    fn turkish_keeps_its_dots() {
        check("c", "tr_TR.UTF-8", "tr_TR.UTF-8", Collation::DottedLocale);
        check("i", "az-Latn", "az-Latn", Collation::DottedLocale);
        check("c", "C", "tr_TR", Collation::DottedLocale);
    }
}
