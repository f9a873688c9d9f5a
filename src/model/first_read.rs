//! What of a table a subscriber wants to read before it hears of changes: `{"limit": 50, "order": "created_at.desc"}`.
//!
//! The order is `column[.asc|.desc][.nullsfirst|.nullslast]`, several by comma. Column names are taken literally; one
//! that holds a comma cannot be named. Deliberately not here: which columns exist, and reading.

/// The first rows of a table, in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstRead {
    /// How many at most.
    pub limit: u32,
    /// By what they are ordered; by the primary key when it is empty.
    pub order: Box<[Order]>,
}

/// One column that rows are ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub column: Box<str>,
    /// Largest first.
    pub is_descending: bool,
    /// Where nulls go; where Postgres puts them when it is `None`.
    pub nulls_first: Option<bool>,
}

impl FirstRead {
    /// Whether the first row of the order is the newest one, so that it is shown last.
    pub fn is_newest_first(&self) -> bool {
        self.order.first().is_some_and(|order| order.is_descending)
    }

    /// Reads an order; an empty text is none. `None`: it cannot be read.
    pub fn parse_order(text: &str) -> Option<Box<[Order]>> {
        if text.trim().is_empty() {
            return Some([].into());
        }
        text.split(',').map(Order::parse).collect()
    }
}

impl Order {
    fn parse(text: &str) -> Option<Self> {
        let mut column = text.trim();
        let mut take = |words: [(&str, bool); 2]| {
            let (before, last) = column.rsplit_once('.')?;
            let (_, value) = words.into_iter().find(|(word, _)| *word == last)?;
            column = before;
            Some(value)
        };
        let nulls_first = take([("nullsfirst", true), ("nullslast", false)]);
        let is_descending = take([("desc", true), ("asc", false)]).unwrap_or(false);
        let is_name = !column.is_empty() && !column.contains('\0');
        is_name.then(|| Self { column: column.into(), is_descending, nulls_first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(column: &str, is_descending: bool, nulls_first: Option<bool>) -> Order {
        Order { column: column.into(), is_descending, nulls_first }
    }

    #[test]
    fn an_order_is_read_from_its_end() {
        for (text, expected) in [
            ("", vec![]),
            ("id", vec![order("id", false, None)]),
            ("created_at.desc", vec![order("created_at", true, None)]),
            (
                "a.asc.nullsfirst, b.nullslast",
                vec![order("a", false, Some(true)), order("b", false, Some(false))],
            ),
            ("a.b.desc", vec![order("a.b", true, None)]),
            ("a.DESC", vec![order("a.DESC", false, None)]),
        ] {
            assert_eq!(FirstRead::parse_order(text).as_deref(), Some(&*expected), "{text}");
        }
        for text in [",", "a,", ".desc", "a,,b", ".nullsfirst"] {
            assert_eq!(FirstRead::parse_order(text), None, "{text}");
        }
    }
}
