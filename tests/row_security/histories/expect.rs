//! What a subscriber must get of a change, from what a select shows.

use serde_json::{Map, Value};

use super::history::{Change, Event, Version};
use super::oracle::{Judged, Rights, Verdict};
use super::rules::{Guard, Rule};
use super::shape::{Identity, Key, Shape, What, is_out_of_line};

/// A row as it must be told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What must be there.
    pub must: Map<String, Value>,
    /// What may be absent, because the WAL does not have it; never anything else.
    pub may: Map<String, Value>,
}

impl Told {
    /// What a column must be, if it is told.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.must.get(name).or_else(|| self.may.get(name))
    }

    pub fn fits(&self, told: &Value) -> bool {
        let Some(told) = told.as_object() else { return false };
        let is_known = |(name, value): (&String, &Value)| self.value(name) == Some(value);
        told.iter().all(is_known) && self.must.keys().all(|name| told.contains_key(name))
    }
}

/// A change that a subscriber must get.
#[derive(Clone, Debug)]
pub struct Want {
    pub event: Event,
    pub table: String,
    pub ver: u64,
    pub record: Option<Told>,
    pub old: Option<Told>,
    /// The key alone, where the old row of an UPDATE cannot be judged by its image.
    pub cut: Option<Told>,
    /// What is told in place of the row.
    pub problem: Option<&'static str>,
    /// Why the relay may withhold it instead, if it says so.
    pub excuse: Option<&'static str>,
    /// Whether it may be judged by the rights of before.
    pub is_late: bool,
    pub tags: Vec<String>,
}

/// What a subscriber must get of a change.
#[derive(Clone, Debug)]
pub enum Expected {
    /// It must not arrive, and here is what it is.
    Nothing {
        ver: u64,
        event: Event,
        why: String,
        /// Whether it may be judged by the rights of before.
        is_late: bool,
        tags: Vec<String>,
    },
    Want(Box<Want>),
}

/// What there is to know about one change through one view.
pub struct Place<'a> {
    pub shape: &'a Shape,
    pub guard: &'a Guard,
    pub versions: &'a [Version],
    pub judged: &'a Judged,
    pub view: usize,
    pub who: usize,
    pub tags: &'a [String],
    /// Whether the rights have changed too recently to be noticed.
    pub is_late: bool,
    /// Whether the table's row security was just switched off.
    pub is_opened: bool,
}

impl Place<'_> {
    fn rights(&self) -> &Rights {
        &self.judged.rights[self.view][self.who]
    }

    fn verdict(&self, version: usize) -> &Verdict {
        self.judged.verdict(version, self.view, self.who)
    }

    /// Whether it is seen under the name of the table, and not of one of its partitions.
    fn is_of_table(&self) -> bool {
        self.view + 1 == self.shape.views().len()
    }

    /// The rules of the policies that apply.
    fn rules(&self) -> Vec<Rule> {
        let named = |name: &str| self.guard.policies.iter().find(|policy| policy.name == name);
        self.rights().policies().filter_map(named).map(|policy| policy.rule).collect()
    }

    pub fn expected(&self, change: &Change) -> Expected {
        let subject = change.new.or(change.old).unwrap();
        let ver = self.versions[subject].ver;
        let tags = self.marks(change);
        let (is_late, event) = (self.is_late, change.event);
        let nothing = |why: String, tags| Expected::Nothing { ver, event, why, is_late, tags };
        if self.rights().is_refused() {
            return nothing("a select is refused".to_owned(), tags);
        }
        let mut want = Want {
            event: change.event,
            table: self.shape.views()[self.view].0.clone(),
            ver,
            record: None,
            old: None,
            cut: None,
            problem: None,
            excuse: None,
            is_late,
            tags: tags.clone(),
        };
        if change.event == Event::Delete {
            return match self.deleted(change.old.unwrap()) {
                Ok(old) => {
                    want.old = Some(old);
                    want.excuse = self.excuse(change);
                    Expected::Want(Box::new(want))
                }
                Err(why) => nothing(why, tags),
            };
        }
        match self.verdict(subject) {
            Verdict::Shown => {}
            other => return nothing(format!("{other:?}"), tags),
        }
        want.excuse = self.excuse(change);
        want.problem = self.problem();
        if want.problem.is_none() {
            want.cut = change
                .old
                .filter(|old| self.excuse_for(*old, None).is_some())
                .map(|old| self.key_or_less(old, subject));
            want.record = Some(self.record(subject, Some(change)));
            want.old = change.old.map(|old| match self.verdict(old) {
                Verdict::Shown if self.shape.identity == Identity::Full => self.record(old, None),
                // The old key is another, of a row that may not be read.
                _ if self.shape.identity == Identity::Full && self.is_moved(old, subject) => {
                    Told::default()
                }
                _ => self.key(old),
            });
        }
        Expected::Want(Box::new(want))
    }

    /// What makes the change hard to judge for this principal.
    fn marks(&self, change: &Change) -> Vec<String> {
        let (shape, rules) = (self.shape, self.rules());
        let version = &self.versions[change.new.or(change.old).unwrap()];
        let mut marks = self.tags.to_vec();
        marks.extend(change.tags.iter().map(|tag| (*tag).to_owned()));
        marks.extend(rules.iter().map(|rule| format!("{rule:?}")));
        let reads =
            |what: What| self.rights().bound && rules.iter().any(|rule| rule.may_read(what));
        for (what, _) in &shape.columns {
            let value = version.values.get(what).map_or("", String::as_str);
            if is_unchanged(shape, version, change, *what) {
                marks.push(
                    if reads(*what) { "unchanged-read" } else { "unchanged-unread" }.to_owned(),
                );
            }
            let is_update_of_key = change.event == Event::Update && is_out_of_line(value);
            if shape.identity != Identity::Full && shape.is_identity(*what) && is_update_of_key {
                marks.push("long-key".to_owned());
            }
            if what.inputs().is_empty() && !shape.is_listed(*what) && reads(*what) {
                marks.push("unpublished".to_owned());
            }
            if value == "'null'" && reads(*what) {
                marks.push("json-null".to_owned());
            }
            if value.contains("u0000") {
                marks.push("json-nul".to_owned());
            }
            if *what == What::Small && value == "5000" {
                marks.push("breaks-check".to_owned());
            }
        }
        let has_settings = !self.tags.iter().any(|tag| tag == "world0");
        if has_settings && rules.iter().any(|rule| rule.follows_settings()) {
            marks.push("settings".to_owned());
        }
        if change.event == Event::Delete {
            marks.push("DELETE".to_owned());
        }
        marks
    }

    /// What a deletion shows, or why it shows nothing.
    fn deleted(&self, old: usize) -> Result<Told, String> {
        let rights = self.rights();
        let is_full = self.shape.identity == Identity::Full;
        if !rights.bound {
            return Ok(if is_full { self.record(old, None) } else { self.key(old) });
        }
        if !rights.open {
            return Err("no policy lets anything through".to_owned());
        }
        let verdict = self.verdict(old);
        if is_full {
            return match verdict {
                Verdict::Shown => Ok(self.record(old, None)),
                other => Err(format!("{other:?}, and the WAL has the old row")),
            };
        }
        let is_of_key = |rule: &Rule| {
            let columns = self.shape.columns.iter().map(|(what, _)| *what);
            let mut read = columns.filter(|what| rule.may_read(*what));
            !matches!(rule, Rule::TableOid) && read.all(|what| self.shape.is_identity(what))
        };
        if self.rules().iter().all(is_of_key) && *verdict != Verdict::Shown {
            return Err(format!("{verdict:?}, which the key tells"));
        }
        Ok(self.key(old))
    }

    /// What is told in place of a row.
    fn problem(&self) -> Option<&'static str> {
        if self.shape.key == Key::None {
            return Some("Error 400: Bad Request, no primary key");
        }
        let keys = self.shape.columns.iter().filter(|(what, _)| self.shape.is_key(*what));
        let mut names = keys.map(|(_, name)| name);
        names.any(|name| !self.rights().may_read(name)).then_some("Error 401: Unauthorized")
    }

    /// The columns of a version that the role may read and the WAL may have.
    fn record(&self, version: usize, change: Option<&Change>) -> Told {
        let version = &self.versions[version];
        let mut told = Told::default();
        for (what, name) in &self.shape.columns {
            if !self.rights().may_read(name) {
                continue;
            }
            let inputs = what.inputs();
            if inputs.is_empty() && !self.shape.is_listed(*what) {
                continue;
            }
            let is_absent = |what: &What| {
                !self.shape.is_listed(*what)
                    || change.is_some_and(|change| is_unchanged(self.shape, version, change, *what))
            };
            let may_be_absent =
                is_absent(what) && inputs.is_empty() || inputs.iter().any(is_absent);
            let side = if may_be_absent { &mut told.may } else { &mut told.must };
            side.insert(name.clone(), shown(*what, &version.record[name]));
        }
        told
    }

    /// Whether two versions have different keys.
    fn is_moved(&self, old: usize, new: usize) -> bool {
        let keys = self.shape.columns.iter().filter(|(what, _)| self.shape.is_key(*what));
        let mut names = keys.map(|(_, name)| name);
        names.any(|name| self.versions[old].record[name] != self.versions[new].record[name])
    }

    /// The key of an old version, or nothing of it where the new one has another.
    fn key_or_less(&self, old: usize, new: usize) -> Told {
        let key = self.key(old);
        if !self.is_moved(old, new) {
            return key;
        }
        let may = key.must.into_iter().chain(key.may).collect();
        Told { may, ..Told::default() }
    }

    /// The columns of a version that a row of the key alone has.
    fn key(&self, version: usize) -> Told {
        let (shape, rights) = (self.shape, self.rights());
        let is_shown = |what: What| match shape.identity {
            Identity::Full => shape.is_key(what),
            _ => shape.is_identity(what) && (shape.is_key(what) || !rights.guarded),
        };
        let columns =
            shape.columns.iter().filter(|(what, name)| is_shown(*what) && rights.may_read(name));
        let record = &self.versions[version].record;
        let must =
            columns.map(|(what, name)| (name.clone(), shown(*what, &record[name]))).collect();
        Told { must, may: Map::new() }
    }

    /// Why the image of a change may not be enough to judge it.
    fn excuse(&self, change: &Change) -> Option<&'static str> {
        self.excuse_for(change.new.or(change.old)?, Some(change))
    }

    /// The same of a version; of an old row without a change.
    fn excuse_for(&self, version: usize, change: Option<&Change>) -> Option<&'static str> {
        if !self.rights().bound {
            // Parsed again, the policy is refused before it can be seen that it does not apply any more.
            let is_opened = self.is_opened && self.is_of_table();
            let names_hidden = |rule| matches!(rule, Rule::HiddenFunction | Rule::HiddenType);
            return (is_opened && self.rules().into_iter().any(names_hidden))
                .then_some("the policy that was just switched off names what is hidden");
        }
        let version = &self.versions[version];
        for rule in self.rules() {
            let reads = self.shape.columns.iter().filter(|(what, _)| rule.may_read(*what));
            for (what, _) in reads {
                if change.is_some_and(|change| is_unchanged(self.shape, version, change, *what)) {
                    return Some("the policy reads a value that the WAL leaves out");
                }
                if what.inputs().is_empty() && !self.shape.is_listed(*what) {
                    return Some("the policy reads a column that is not published");
                }
                let value = version.values.get(what).map(String::as_str);
                if matches!(what, What::Doc | What::Plain)
                    && (value == Some("'null'")
                        || value.is_some_and(|value| value.contains("u0000")))
                {
                    return Some("the policy reads JSON that the image cannot tell");
                }
            }
            if rule == Rule::WholeRow && self.shape.has(What::Mood) {
                return Some("the whole row has a column of a type in a hidden schema");
            }
            let breaks_check =
                version.values.get(&What::Small).is_some_and(|value| value == "5000");
            if rule == Rule::WholeRow && breaks_check {
                if self.shape.key == Key::None {
                    return Some("no whole row can be made, and none is found without a key");
                }
                let is_newest =
                    |other: &Version| other.row != version.row || other.ver <= version.ver;
                if !self.versions.iter().all(is_newest) {
                    return Some("no whole row can be made, and the stored one has changed");
                }
            }
            if rule.is_beyond_the_image() {
                return Some("the policy looks at more than the image");
            }
            if rule == Rule::Raises {
                return Some("a policy raises");
            }
        }
        None
    }
}

/// Whether the WAL leaves out the value because the UPDATE did not change it.
pub fn is_unchanged(shape: &Shape, version: &Version, change: &Change, what: What) -> bool {
    change.event == Event::Update
        && !shape.is_identity(what)
        && !change.set.contains(&what)
        && version.values.get(&what).is_some_and(|value| is_out_of_line(value))
}

/// A value of Postgres' JSON as subscribers get it.
fn shown(what: What, value: &Value) -> Value {
    match (what, value.as_str()) {
        (What::Raw, Some(text)) => text.trim_start_matches("\\x").into(),
        _ => value.clone(),
    }
}
