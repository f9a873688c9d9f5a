//! A change as the JSON its subscribers get: once per set of columns, whoever asks.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use crate::fanout::sighting::{Mask, Sighting};
use crate::hub::{Dialect, Frame};
use crate::model::{Cell, Event, OldRow, SqlType};
use crate::rowjson;

/// How much of the old row somebody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OldShown {
    /// Not even its key, which was another.
    Nothing,
    /// The columns of its key.
    Key,
    /// Whatever the WAL has of it.
    Whole,
}

/// Why a change comes without its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The table has no primary key.
    NoPrimaryKey,
    /// The role may not read the primary key.
    KeyUnreadable,
}

impl Problem {
    const fn text(self) -> &'static str {
        match self {
            Self::NoPrimaryKey => "Error 400: Bad Request, no primary key",
            Self::KeyUnreadable => "Error 401: Unauthorized",
        }
    }
}

/// What a set of subscribers sees of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The row, in these columns.
    Row(Mask, OldShown),
    /// No row, and why.
    Problem(Problem),
}

/// Rows above the limit keep the columns whose JSON is this short, in bytes.
const SMALL_COLUMN: usize = 64;

/// The JSON rendered so far for one change, and the frames made of it.
#[derive(Debug, Default)]
pub(super) struct Rendered(Mutex<Versions>);

type Versions = SmallVec<[(Shown, Arc<Data>); 1]>;

/// The JSON of a change for one set of columns.
#[derive(Debug)]
pub(super) struct Data {
    json: Box<str>,
    frames: Mutex<SmallVec<[(FrameKey, Frame); 1]>>,
}

type FrameKey = (&'static str, Arc<str>, SmallVec<[u64; 2]>);

/// Versions of a change that are kept: one per set of columns that somebody sees, without growing with what clients select.
const VERSIONS_KEPT: usize = 16;

/// Frames kept per rendered change: enough for one topic per dialect and a few more, without growing with topics.
const FRAMES_KEPT: usize = 8;

impl Data {
    /// The frame for everyone of this dialect, topic and ids.
    pub(super) fn frame(
        &self,
        dialect: &'static dyn Dialect,
        topic: &Arc<str>,
        ids: &[u64],
    ) -> Frame {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let made = frames
            .iter()
            .find(|((name, at, of), _)| *name == dialect.name() && at == topic && **of == *ids);
        if let Some((_, frame)) = made {
            return frame.clone();
        }
        let frame = dialect.change(topic, ids, &self.json);
        if frames.len() == FRAMES_KEPT {
            frames.clear();
        }
        frames.push(((dialect.name(), Arc::clone(topic), ids.into()), frame.clone()));
        frame
    }
}

impl Sighting {
    /// The change's JSON for `shown`; rows whose JSON exceeds `limit` bytes are cut to their small columns.
    pub(super) fn data(&self, shown: &Shown, limit: usize) -> Arc<Data> {
        let mut all = self.rendered.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, data)) = all.iter().find(|(held, _)| held == shown) {
            return Arc::clone(data);
        }
        let json = match shown {
            Shown::Row(mask, old) => self.render(mask, *old, limit),
            Shown::Problem(problem) => self.render_problem(*problem),
        };
        let data = Arc::new(Data { json: json.into(), frames: Mutex::default() });
        if all.len() == VERSIONS_KEPT {
            all.clear();
        }
        all.push((shown.clone(), Arc::clone(&data)));
        data
    }

    fn render(&self, mask: &Mask, old: OldShown, limit: usize) -> String {
        let mut rows = String::with_capacity(512);
        self.push_rows(&mut rows, mask, old, |_, _| true);
        let is_large = rows.len() > limit;
        if is_large {
            rows.clear();
            let mut value = String::new();
            self.push_rows(&mut rows, mask, old, |sql_type, cell| {
                let Cell::Text(_) = cell else { return true };
                value.clear();
                rowjson::push_value(&mut value, sql_type, cell.text().unwrap_or_default());
                value.len() <= SMALL_COLUMN
            });
        }
        let mut out = self.head(rows.len() + 256 + mask.len() * 32);
        let _ = write!(out, r#","commit_timestamp":"{}","columns":"#, self.committed_at);
        let shown = self.table().columns.iter().zip(mask.iter()).filter(|(_, shown)| **shown);
        rowjson::push_columns(
            &mut out,
            shown.map(|(column, _)| (&*column.name, &*column.sql_type.name)),
        );
        out.push_str(&rows);
        out.push_str(if is_large {
            r#","errors":["Error 413: Payload Too Large"]}"#
        } else {
            r#","errors":null}"#
        });
        out
    }

    /// Appends `,"record":{…}` and `,"old_record":{…}` as the event has them.
    fn push_rows(
        &self,
        out: &mut String,
        mask: &Mask,
        old: OldShown,
        mut keeps: impl FnMut(&SqlType, &Cell) -> bool,
    ) {
        if let Some(new) = &self.new {
            out.push_str(r#","record":"#);
            let cells = self.layout.cells(new, |at| mask.get(at) == Some(&true));
            rowjson::push_record(out, cells.filter(|(_, sql_type, cell)| keeps(sql_type, cell)));
        }
        if self.event == Event::Insert {
            return;
        }
        out.push_str(r#","old_record":"#);
        let is_whole = old == OldShown::Whole;
        let (row, is_whole) = match (&self.old, &self.new) {
            (OldRow::Full(row), _) => (Some(row), is_whole),
            (OldRow::Key(row), _) => (Some(row), false),
            // The key did not change, so it is the new row's.
            (OldRow::Absent, new) => (new.as_ref(), false),
        };
        match row.filter(|_| old != OldShown::Nothing) {
            Some(row) => {
                let is_shown =
                    |at| mask.get(at) == Some(&true) && (is_whole || self.layout.is_key(at));
                let cells = self.layout.cells(row, is_shown);
                rowjson::push_record(
                    out,
                    cells.filter(|(_, sql_type, cell)| keeps(sql_type, cell)),
                );
            }
            None => out.push_str("{}"),
        }
    }

    fn render_problem(&self, problem: Problem) -> String {
        let mut out = self.head(256);
        let _ = write!(out, r#","commit_timestamp":null,"columns":[],"record":{{}}"#);
        if self.event == Event::Update {
            out.push_str(r#","old_record":{}"#);
        }
        let _ = write!(out, r#","errors":["{}"]}}"#, problem.text());
        out
    }

    /// `{"schema":…,"table":…,"type":…,"id":…`: the id is an addition that stock clients ignore.
    fn head(&self, capacity: usize) -> String {
        let mut out = String::with_capacity(capacity);
        out.push_str(r#"{"schema":"#);
        rowjson::push_string(&mut out, &self.table().schema);
        out.push_str(r#","table":"#);
        rowjson::push_string(&mut out, &self.table().name);
        let _ = write!(out, r#","type":"{}","id":"{}"#, self.event.word(), self.id);
        match self.first {
            None => out.push('"'),
            // The position is the id of a change as well.
            Some(follow) => {
                let _ = write!(out, r#":s{follow}","snapshot":true"#);
            }
        }
        out
    }
}
