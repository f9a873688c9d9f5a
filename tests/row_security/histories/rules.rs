//! What policies say: each rule is one way to look at a row, at who asks, or at the settings in force.

use std::fmt::Write as _;

use super::shape::{ALICE, BOB, Shape, What};
use super::world::Roles;
use crate::chaos::dice::Dice;
use relay::postgres::quote::{identifier as quoted, literal};

/// One condition of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Everybody,
    Nobody,
    SignedIn,
    Own,
    OwnOnce,
    Member,
    LocalHour,
    LocalDay,
    TextOfTime,
    TextOfDay,
    DayOfText,
    TextOfScore,
    TextOfLength,
    TextOfBytes,
    ZoneSetting,
    AppSetting,
    SearchPath,
    ReadsBig,
    /// The length of a value stored out of line, as a generated column.
    ReadsSize,
    HiddenFunction,
    HiddenType,
    TableOid,
    WholeRow,
    JsonNull,
    JsonMember,
    PlainNull,
    KeyOnly,
    CodeOnly,
    CurrentUser,
    LeavesSetting,
    Raises,
    Generated,
    DrawnDomain,
    SmallDomain,
    SureDomain,
    /// A function that may be replaced.
    Allowed,
}

const ALL: &[Rule] = &[
    Rule::Everybody,
    Rule::Nobody,
    Rule::SignedIn,
    Rule::Own,
    Rule::Own,
    Rule::Own,
    Rule::OwnOnce,
    Rule::OwnOnce,
    Rule::Member,
    Rule::LocalHour,
    Rule::LocalHour,
    Rule::LocalDay,
    Rule::TextOfTime,
    Rule::TextOfDay,
    Rule::DayOfText,
    Rule::TextOfScore,
    Rule::TextOfLength,
    Rule::TextOfBytes,
    Rule::ZoneSetting,
    Rule::AppSetting,
    Rule::SearchPath,
    Rule::ReadsBig,
    Rule::ReadsSize,
    Rule::HiddenFunction,
    Rule::HiddenFunction,
    Rule::HiddenType,
    Rule::TableOid,
    Rule::WholeRow,
    Rule::JsonNull,
    Rule::JsonMember,
    Rule::PlainNull,
    Rule::KeyOnly,
    Rule::CodeOnly,
    Rule::CurrentUser,
    Rule::LeavesSetting,
    Rule::Raises,
    Rule::Generated,
    Rule::DrawnDomain,
    Rule::SmallDomain,
    Rule::SureDomain,
    Rule::Allowed,
];

/// Those that make sense alone.
const PLAIN: &[Rule] = &[
    Rule::Everybody,
    Rule::SignedIn,
    Rule::SignedIn,
    Rule::Own,
    Rule::OwnOnce,
    Rule::OwnOnce,
    Rule::Allowed,
    Rule::Member,
    Rule::LeavesSetting,
];

impl Rule {
    pub fn random(dice: &mut Dice) -> Self {
        ALL[usize::try_from(dice.below(ALL.len() as u64)).unwrap()]
    }

    /// The columns it reads.
    pub const fn reads(self) -> &'static [What] {
        match self {
            Self::Everybody
            | Self::Nobody
            | Self::SignedIn
            | Self::ZoneSetting
            | Self::SearchPath
            | Self::CurrentUser
            | Self::LeavesSetting
            | Self::Allowed => &[],
            Self::Own | Self::OwnOnce | Self::HiddenFunction | Self::TableOid => &[What::Owner],
            Self::Member | Self::AppSetting | Self::WholeRow | Self::Raises => &[What::Team],
            Self::LocalHour | Self::LocalDay | Self::TextOfTime | Self::TextOfDay => &[What::At],
            Self::DayOfText => &[What::Written],
            Self::TextOfScore => &[What::Score],
            Self::TextOfLength => &[What::Length],
            Self::TextOfBytes => &[What::Raw],
            Self::ReadsBig => &[What::Big],
            Self::ReadsSize => &[What::Size],
            Self::HiddenType => &[What::Mood],
            Self::JsonNull | Self::JsonMember => &[What::Doc],
            Self::PlainNull => &[What::Plain],
            Self::KeyOnly => &[What::Id],
            Self::CodeOnly => &[What::Code],
            Self::Generated => &[What::Twice],
            Self::DrawnDomain => &[What::Drawn],
            Self::SmallDomain => &[What::Small],
            Self::SureDomain => &[What::Sure],
        }
    }

    /// Whether it reads the column of a row, or may.
    pub fn may_read(self, what: What) -> bool {
        let reads = self.reads();
        let read = |what| reads.contains(&what) || self == Self::WholeRow;
        read(what) || reads.iter().any(|read| read.inputs().contains(&what))
    }

    /// Whether a row's image and the client's role do not suffice to repeat it: what it looks at is not of the row, or
    /// nobody but Postgres' own row security may name it.
    pub const fn is_beyond_the_image(self) -> bool {
        matches!(self, Self::TableOid | Self::HiddenFunction | Self::HiddenType)
    }

    /// Whether it depends on the settings in force.
    pub const fn follows_settings(self) -> bool {
        matches!(
            self,
            Self::LocalHour
                | Self::LocalDay
                | Self::TextOfTime
                | Self::TextOfDay
                | Self::DayOfText
                | Self::TextOfScore
                | Self::TextOfLength
                | Self::TextOfBytes
                | Self::ZoneSetting
                | Self::AppSetting
                | Self::SearchPath
        )
    }

    pub fn expression(self, shape: &Shape, name: &str) -> String {
        let number = shape.number;
        let column = |what| shape.column(what);
        match self {
            Self::Everybody => "true".to_owned(),
            Self::Nobody => "false".to_owned(),
            Self::SignedIn => "auth.uid() is not null".to_owned(),
            Self::Own => format!("{} = auth.uid()", column(What::Owner)),
            Self::OwnOnce => {
                let owner = column(What::Owner);
                format!("{owner} is null or {owner} = (select auth.uid())")
            }
            Self::Member => format!(
                "{} in (select m.team from public.members{number} as m where m.who = auth.uid())",
                column(What::Team)
            ),
            Self::LocalHour => format!("extract(hour from {}) < 12", column(What::At)),
            Self::LocalDay => format!("{}::date = date '2024-06-01'", column(What::At)),
            Self::TextOfTime => format!("{}::text like '%2024-06-01%'", column(What::At)),
            Self::TextOfDay => format!("({}::date)::text like '%-06-%'", column(What::At)),
            Self::DayOfText => format!("{}::date < date '2024-01-15'", column(What::Written)),
            Self::TextOfScore => format!("length({}::text) < 5", column(What::Score)),
            Self::TextOfLength => format!("{}::text like '1 day%'", column(What::Length)),
            Self::TextOfBytes => format!("{}::text like '%x01%'", column(What::Raw)),
            Self::ZoneSetting => "current_setting('TimeZone') like 'A%'".to_owned(),
            Self::AppSetting => {
                format!("current_setting('app.tenant', true) = {}::text", column(What::Team))
            }
            Self::SearchPath => format!("public.listed{number}()"),
            Self::ReadsBig => format!("{} like 'a%'", column(What::Big)),
            Self::ReadsSize => format!("{} > 100", column(What::Size)),
            Self::HiddenFunction => format!("{}.owns({})", shape.hidden(), column(What::Owner)),
            Self::HiddenType => format!("{} = 'low'::{}.mood", column(What::Mood), shape.hidden()),
            Self::TableOid => format!(
                "tableoid <> 0 and tableoid <> 'pg_class'::regclass and {} = auth.uid()",
                column(What::Owner)
            ),
            Self::WholeRow => format!("public.whole{number}({})", quoted(name)),
            Self::JsonNull => format!("{} is null", column(What::Doc)),
            Self::JsonMember => {
                format!("{} ->> 'who' = auth.jwt() ->> 'sub'", column(What::Doc))
            }
            Self::PlainNull => format!("{} is null", column(What::Plain)),
            Self::KeyOnly => {
                format!("hashtext({}::text) % 2 = 0 or auth.role() like '%guest'", column(What::Id))
            }
            Self::CodeOnly => {
                format!("hashtext({}) % 2 = 0 and auth.uid() is not null", column(What::Code))
            }
            Self::CurrentUser => "current_user = auth.role()".to_owned(),
            Self::LeavesSetting => format!("public.remembers{number}()"),
            Self::Raises => format!("10 / ({} - 1) > 3", column(What::Team)),
            Self::Generated => format!("{} > 3", column(What::Twice)),
            Self::DrawnDomain => format!("{} > 1", column(What::Drawn)),
            Self::SmallDomain => {
                format!("{} < 5 or {} is null", column(What::Small), column(What::Small))
            }
            Self::SureDomain => format!("{} = 1", column(What::Sure)),
            Self::Allowed => format!("public.allowed{number}()"),
        }
    }

    /// What has to be there first.
    pub fn makes(self, shape: &Shape, everybody: &str) -> Option<String> {
        let number = shape.number;
        Some(match self {
            Self::Member => format!(
                "create table public.members{number} (who uuid, team int);
                 insert into public.members{number} values ('{ALICE}', 1), ('{ALICE}', 2), ('{BOB}', 2);
                 grant select on public.members{number} to {everybody};"
            ),
            Self::SearchPath => format!(
                "create table public.roster{number} (who uuid); create table app.roster{number} (who uuid);
                 insert into public.roster{number} values ('{ALICE}');
                 insert into app.roster{number} values ('{BOB}');
                 grant select on public.roster{number}, app.roster{number} to {everybody};
                 create function public.listed{number}() returns boolean language plpgsql stable as
                 $$ begin return exists (select from roster{number} where who = auth.uid()); end $$;"
            ),
            Self::HiddenFunction => format!(
                "create function {}.owns(owner uuid) returns boolean language sql stable security definer as
                 $$ select owner = auth.uid() $$;",
                shape.hidden()
            ),
            Self::LeavesSetting => format!(
                "create function public.remembers{number}() returns boolean language plpgsql as $$
                 begin
                   if auth.jwt() ->> 'sub' = {alice} then perform set_config('app.seen{number}', 'yes', false); end if;
                   return coalesce(current_setting('app.seen{number}', true), '') = 'yes';
                 end $$;",
                alice = literal(ALICE)
            ),
            Self::Allowed => format!(
                "create function public.allowed{number}() returns boolean language sql stable as
                 $$ select true $$;"
            ),
            _ => return None,
        })
    }

    /// What removes it.
    pub fn removes(self, shape: &Shape) -> String {
        let number = shape.number;
        match self {
            Self::Member => format!("drop table public.members{number};"),
            Self::SearchPath => format!(
                "drop function public.listed{number} cascade; drop table public.roster{number}, app.roster{number};"
            ),
            Self::LeavesSetting => format!("drop function public.remembers{number} cascade;"),
            Self::Allowed => format!("drop function public.allowed{number} cascade;"),
            _ => String::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub name: String,
    pub is_permissive: bool,
    pub command: &'static str,
    pub to: String,
    pub rule: Rule,
}

/// The row security of a table.
#[derive(Clone, Debug)]
pub struct Guard {
    pub is_enabled: bool,
    pub policies: Vec<Policy>,
}

impl Guard {
    pub fn random(dice: &mut Dice, roles: &Roles, most: u64) -> Self {
        // One policy that lets much through, so that taking it away is seen.
        if dice.chance(35) {
            let rule = PLAIN[usize::try_from(dice.below(PLAIN.len() as u64)).unwrap()];
            let (name, to) = ("p0".to_owned(), "public".to_owned());
            let policy = Policy { name, is_permissive: true, command: "select", to, rule };
            return Self { is_enabled: true, policies: vec![policy] };
        }
        let count = dice.below(most + 1);
        let mut policies = Vec::new();
        for number in 0..count {
            let to = match dice.below(6) {
                0 => roles.user.clone(),
                1 => roles.group.clone(),
                _ => "public".to_owned(),
            };
            policies.push(Policy {
                name: format!("p{number}"),
                is_permissive: number == 0 || dice.chance(70),
                command: ["select", "select", "select", "all", "insert"]
                    [usize::try_from(dice.below(5)).unwrap()],
                to,
                rule: Rule::random(dice),
            });
        }
        Self { is_enabled: dice.chance(90), policies }
    }

    pub fn none() -> Self {
        Self { is_enabled: false, policies: Vec::new() }
    }

    pub fn needed(&self) -> Vec<What> {
        self.policies.iter().flat_map(|policy| policy.rule.reads()).copied().collect()
    }

    /// Puts it on a table called `name`.
    pub fn sql(&self, shape: &Shape, table: &str, name: &str) -> String {
        let mut sql = String::new();
        if self.policies.iter().any(|policy| policy.rule == Rule::WholeRow) {
            write!(
                sql,
                "create function public.whole{}({table}) returns boolean language sql stable as
                 'select $1.{} > 1';",
                shape.number,
                shape.column(What::Team).replace('\'', "''")
            )
            .unwrap();
        }
        if self.is_enabled {
            write!(sql, "alter table {table} enable row level security;").unwrap();
        }
        for policy in &self.policies {
            let kind = if policy.is_permissive { "permissive" } else { "restrictive" };
            let clause = if policy.command == "insert" { "with check" } else { "using" };
            write!(
                sql,
                "create policy {} on {table} as {kind} for {} to {} {clause} ({});",
                quoted(&policy.name),
                policy.command,
                policy.to,
                policy.rule.expression(shape, name)
            )
            .unwrap();
        }
        sql
    }
}
