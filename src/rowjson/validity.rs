//! Whatever the type and whatever the text, what comes out is JSON.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde::de::IgnoredAny;

use crate::model::sqltype::Composite;
use crate::model::{Cell, Kind, SqlType};
use crate::rowjson::{push_image, push_record};

fn sql_type() -> impl Strategy<Value = SqlType> {
    let named = |kind| SqlType { oid: 0, name: Arc::from("t"), kind };
    let scalar = prop::sample::select(vec![
        Kind::Bool,
        Kind::Integer,
        Kind::Numeric,
        Kind::Float,
        Kind::Json,
        Kind::Jsonb,
        Kind::Bytea,
        Kind::Date,
        Kind::Timestamp,
        Kind::TimestampTz,
        Kind::Uuid,
        Kind::Text,
        Kind::BlankPadded,
        Kind::Enum(Arc::from([Box::from("a")])),
        Kind::Hstore,
        Kind::Other,
    ]);
    scalar.prop_map(named).prop_recursive(3, 8, 3, move |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(vec![',', ';', ':'])).prop_map(
                move |(of, delimiter)| named(Kind::Array { element: Arc::new(of), delimiter })
            ),
            inner.clone().prop_map(move |of| named(Kind::Domain(Arc::new(of)))),
            prop::collection::vec((any::<String>().prop_map(String::into_boxed_str), inner), 0..4)
                .prop_map(move |attributes| named(Kind::Composite(Composite {
                    attributes: attributes.into(),
                    earlier: Arc::default(),
                }))),
        ]
    })
}

/// Texts made of what the readers look for.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "(",
            ")",
            "[",
            "]",
            ",",
            ";",
            "\"",
            "\\",
            "=>",
            "=",
            ", ",
            "NULL",
            "NaN",
            "t",
            "\\x",
            "0a",
            "1",
            "-1.5e+3",
            "+00",
            " ",
            " BC",
            "2024-01-02 03:04:05",
            "infinity",
            "null",
            "{}",
            "\n",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_text_of_any_type_becomes_json(sql_type in sql_type(), name in any::<String>(), text in text()) {
        let cell = Cell::Text(Bytes::from(text));
        let mut out = String::new();
        push_record(&mut out, [(&*name, &sql_type, &cell)].into_iter());
        prop_assert!(serde_json::from_str::<IgnoredAny>(&out).is_ok(), "{}", out);
        out.clear();
        push_image(&mut out, [(&*name, &sql_type, &cell)].into_iter());
        prop_assert!(serde_json::from_str::<IgnoredAny>(&out).is_ok(), "{}", out);
    }
}
