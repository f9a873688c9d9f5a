//! What stands in several of the files that a DBA pastes, or twice in one, is the same wherever it stands.
//!
//! Each file is pasted alone, so none can include another, and ENABLE needs one query both in its statement and in its
//! result (the file says why). A change of one of these texts is a change of all of them; the test names the one that was
//! left behind. Indentation and line breaks may differ.

use super::shipped;

const ENABLE: &str = "ENABLE_REALTIME_CHAT";
const DISABLE: &str = "DISABLE_REALTIME_CHAT";
const UNDO: &str = "UNDO_ENABLE_REALTIME_CHAT";

struct Shared {
    /// Each file, and how often the text stands in it.
    files: &'static [(&'static str, usize)],
    begins_with: &'static str,
    /// The text ends before the first of these.
    ends_before: &'static [&'static str],
}

const SHARED: [Shared; 9] = [
    // Who may own the record of what was before.
    Shared {
        files: &[(ENABLE, 1), (DISABLE, 1), (UNDO, 1)],
        begins_with: "own_lock_timeout constant text",
        ends_before: &["-- What was there before:", "item record;"],
    },
    // Whether a schema is that record. What the error says of it differs: it names another file, or this one.
    Shared {
        files: &[(ENABLE, 1), (DISABLE, 1), (UNDO, 1)],
        begins_with: "if to_regnamespace('realtime_chat_undo') is not null then if not exists",
        ends_before: &["raise exception"],
    },
    Shared {
        files: &[(ENABLE, 1), (DISABLE, 1), (UNDO, 1)],
        begins_with: "using hint = 'Rename it, then run this file again: alter schema",
        ends_before: &["select coalesce", "-- Out of the publication.", "end if; select"],
    },
    // What the record holds.
    Shared {
        files: &[(ENABLE, 1), (DISABLE, 3), (UNDO, 2)],
        begins_with: "jsonb_to_recordset(noted) as b",
        ends_before: &["join", "where"],
    },
    Shared {
        files: &[(ENABLE, 1), (DISABLE, 1)],
        begins_with: "execute format('comment on schema realtime_chat_undo",
        ends_before: &["perform", "-- The indexes"],
    },
    // A column that an UPDATE may name.
    Shared {
        files: &[(ENABLE, 1), (DISABLE, 1), (UNDO, 1)],
        begins_with: "( select format(case when a.attgenerated",
        ends_before: &["as assignment"],
    },
    // What is taken back, up to what is done where updates would be refused.
    Shared {
        files: &[(DISABLE, 1), (UNDO, 1)],
        begins_with: "-- Out of the publication.",
        ends_before: &["exception when sqlstate 'RL001' then"],
    },
    Shared {
        files: &[(DISABLE, 1), (UNDO, 1)],
        begins_with: "-- The indexes that ENABLE made. for item",
        ends_before: &["else for item", "-- The tables"],
    },
    // The indexes: what is created, and what is judged.
    Shared {
        files: &[(ENABLE, 2)],
        begins_with: "meaning (relation, meaning, candidates) as (values",
        ends_before: &["select j.relation, j.index_name", ", index_summary as"],
    },
];

#[test]
fn what_is_pasted_in_several_files_is_the_same_in_all_of_them() {
    for Shared { files, begins_with, ends_before } in SHARED {
        let (of, _) = files[0];
        let wanted = texts(of, begins_with, ends_before).swap_remove(0);
        for &(file, times) in files {
            let found = texts(file, begins_with, ends_before);
            assert_eq!(found.len(), times, "{file}: {begins_with}");
            for text in found {
                assert_eq!(text, wanted, "{file} is not as {of}");
            }
        }
    }
}

/// Each text of a file that begins and ends so, with single blanks.
fn texts(file: &str, begins_with: &str, ends_before: &[&str]) -> Vec<String> {
    let whole = shipped(file).split_whitespace().collect::<Vec<_>>().join(" ");
    let text = |(at, _)| {
        let rest = &whole[at..];
        let end = ends_before.iter().filter_map(|end| rest.find(end)).min();
        let end = end.unwrap_or_else(|| panic!("{file}: no end of {begins_with}"));
        rest[..end].trim_end().to_owned()
    };
    whole.match_indices(begins_with).map(text).collect()
}
