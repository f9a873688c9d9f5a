//! Rights that change between two changes of rows, or together with them.

use super::rules::Rule;
use super::shape::{ALICE, Identity, What};
use super::tables::Scene;
use super::world::Roles;
use crate::chaos::dice::Dice;

/// One change of who may read what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    PolicyFalse,
    PolicyDropped,
    RestrictiveAdded,
    PermissiveAdded,
    SelectRevoked,
    ColumnRevoked,
    SelectGranted,
    UsageRevoked,
    BypassLost,
    MembershipLost,
    FunctionReplaced,
    SecurityEnabled,
    SecurityDisabled,
    TeamLeft,
    /// Of the partitions, not of the table they belong to.
    LeavesShut,
}

const ALL: &[Shift] = &[
    Shift::PolicyFalse,
    Shift::PolicyDropped,
    Shift::RestrictiveAdded,
    Shift::PermissiveAdded,
    Shift::SelectRevoked,
    Shift::ColumnRevoked,
    Shift::SelectGranted,
    Shift::UsageRevoked,
    Shift::BypassLost,
    Shift::MembershipLost,
    Shift::FunctionReplaced,
    Shift::SecurityEnabled,
    Shift::SecurityDisabled,
    Shift::TeamLeft,
    Shift::LeavesShut,
];

impl Shift {
    /// One that means something here; of those that rarely do, more often.
    pub fn random(dice: &mut Dice, scene: &Scene) -> Self {
        let rare = [Self::UsageRevoked, Self::FunctionReplaced, Self::TeamLeft, Self::LeavesShut];
        let mut fitting: Vec<Self> = ALL.iter().filter(|one| one.fits(scene)).copied().collect();
        if dice.chance(50) && rare.iter().any(|one| fitting.contains(one)) {
            fitting.retain(|one| rare.contains(one));
        }
        fitting[usize::try_from(dice.below(fitting.len() as u64)).unwrap()]
    }

    /// One that takes rights away.
    pub fn tightening(dice: &mut Dice, scene: &Scene) -> Self {
        loop {
            let one = Self::random(dice, scene);
            let widens =
                [Self::PermissiveAdded, Self::SelectGranted, Self::SecurityDisabled].contains(&one);
            if !widens {
                return one;
            }
        }
    }

    fn fits(self, scene: &Scene) -> bool {
        let (shape, guard) = (&scene.shape, &scene.guard);
        // The oracle has to select such a table's rows by the version.
        let may_hide_columns = shape.identity != Identity::Nothing;
        match self {
            Self::PolicyFalse => guard.policies.iter().any(|policy| policy.command != "insert"),
            Self::PolicyDropped => !guard.policies.is_empty(),
            Self::SelectRevoked => may_hide_columns,
            Self::ColumnRevoked => may_hide_columns && shape.has(What::Body),
            Self::UsageRevoked => shape.schema != "public",
            Self::FunctionReplaced => scene.rules().contains(&Rule::Allowed),
            Self::LeavesShut => shape.is_partitioned,
            Self::TeamLeft => scene.rules().contains(&Rule::Member),
            _ => true,
        }
    }

    pub fn sql(self, scene: &Scene, roles: &Roles) -> String {
        let shape = &scene.shape;
        let (table, number) = (shape.table(), shape.number);
        match self {
            // It may have been dropped meanwhile.
            Self::PolicyFalse => {
                let mut readable = scene.guard.policies.iter().filter(|policy| policy.command != "insert");
                let name = &readable.next().unwrap().name;
                format!(
                    "do $do$ begin alter policy {name} on {table} using (false);
                     exception when undefined_object then null; end $do$;"
                )
            }
            Self::PolicyDropped => {
                format!("drop policy if exists {} on {table};", scene.guard.policies[0].name)
            }
            Self::RestrictiveAdded => format!(
                "drop policy if exists shut on {table};
                 create policy shut on {table} as restrictive for select to public using (auth.uid() is null);"
            ),
            Self::PermissiveAdded => format!(
                "drop policy if exists wide on {table};
                 create policy wide on {table} for select to {} using (true);",
                roles.user
            ),
            Self::SelectRevoked => format!("revoke select on {table} from {};", roles.user),
            Self::ColumnRevoked => {
                let columns = shape.columns.iter().filter(|(what, _)| *what != What::Body);
                let columns: Vec<String> =
                    columns.map(|(what, _)| shape.column(*what)).collect();
                format!(
                    "revoke select on {table} from {user}; grant select ({}) on {table} to {user};",
                    columns.join(", "),
                    user = roles.user
                )
            }
            Self::SelectGranted => format!("grant select on {table} to {}, {};", roles.user, roles.guest),
            Self::UsageRevoked => {
                format!("revoke usage on schema {} from {};", relay::postgres::quote::identifier(&shape.schema), roles.all())
            }
            Self::BypassLost => format!("alter role {} nobypassrls;", roles.power),
            Self::MembershipLost => format!("revoke {} from {};", roles.group, roles.staff),
            Self::FunctionReplaced => format!(
                "create or replace function public.allowed{number}() returns boolean language sql stable as
                 $$ select auth.uid() is null $$;"
            ),
            Self::SecurityEnabled => format!("alter table {table} enable row level security;"),
            Self::SecurityDisabled => format!("alter table {table} disable row level security;"),
            Self::LeavesShut => (1..=2)
                .map(|part| {
                    let leaf = shape.leaf(part);
                    format!(
                        "alter table {leaf} enable row level security; drop policy if exists shut on {leaf};
                         create policy shut on {leaf} as restrictive for select to public
                           using (auth.uid() is null);"
                    )
                })
                .collect(),
            Self::TeamLeft => format!("delete from public.members{number} where who = '{ALICE}';"),
        }
    }

    /// What puts the roles back to what they are between histories.
    pub fn restored(roles: &Roles) -> String {
        format!("alter role {} bypassrls; grant {} to {};", roles.power, roles.group, roles.staff)
    }
}
