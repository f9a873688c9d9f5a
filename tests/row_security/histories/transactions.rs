//! What happens in a history: changes of rows in patterns that are hard to judge, rights that change, tables made again.

use std::time::Instant;

use super::history::History;
use super::late::Shifted;
use super::shifts::Shift;
use relay::postgres::quote::identifier as quoted;

impl History<'_> {
    /// A few transactions, one right behind the other.
    pub async fn burst(&mut self) {
        let mut sql = String::new();
        for _ in 0..=self.dice.below(2) {
            sql.push_str("begin;");
            self.transaction(&mut sql);
            sql.push_str("commit;");
        }
        self.commit(&sql).await;
    }

    fn transaction(&mut self, sql: &mut String) {
        if !self.may_change() {
            for _ in 0..=self.dice.below(3) {
                self.insert(sql, "insert-only");
            }
            return;
        }
        match self.dice.below(10) {
            0..2 => {
                let row = self.any_row(sql);
                for _ in 0..5 {
                    self.update(sql, row, "five-updates");
                }
            }
            2..4 => {
                let row = self.any_row(sql);
                self.update(sql, row, "update-delete");
                self.delete(sql, row, "update-delete");
            }
            4 => {
                let row = self.insert(sql, "insert-update");
                self.update(sql, row, "insert-update");
            }
            5 => {
                let row = self.insert(sql, "update-behind");
                sql.push_str("commit;begin;");
                self.update(sql, row, "update-behind");
            }
            6 => {
                let row = self.any_row(sql);
                self.delete(sql, row, "delete");
            }
            _ => {
                for _ in 0..=self.dice.below(3) {
                    match self.dice.below(3) {
                        0 => {
                            let row = self.any_row(sql);
                            self.update(sql, row, "mixed");
                        }
                        1 => {
                            let row = self.any_row(sql);
                            self.delete(sql, row, "mixed");
                        }
                        _ => {
                            self.insert(sql, "mixed");
                        }
                    }
                }
            }
        }
    }

    /// A row that is there; a new one if there is none.
    fn any_row(&mut self, sql: &mut String) -> u64 {
        let rows: Vec<u64> = self.rows.keys().copied().collect();
        if rows.is_empty() {
            return self.insert(sql, "first");
        }
        rows[usize::try_from(self.dice.below(rows.len() as u64)).unwrap()]
    }

    /// Rights change, and rows with them or right behind.
    pub async fn shift(&mut self) {
        let shift = Shift::random(&mut self.dice, &self.scene);
        let roles = self.world.roles.clone();
        let change = shift.sql(&self.scene, &roles);
        self.tags.extend([format!("{shift:?}"), "shift".to_owned()]);
        if self.scene.shape.is_partitioned {
            self.tags.push("shift-of-parent".to_owned());
        }
        let mut rows = String::new();
        let mut sql = String::from("begin;");
        let first = self.changes.len();
        let mut behind = first..first;
        match self.dice.below(4) {
            0 => {
                self.tags.push("shift-first".to_owned());
                self.insert(&mut rows, "shift-first");
                if self.may_change() {
                    let row = self.any_row(&mut rows);
                    self.update(&mut rows, row, "shift-first");
                }
                sql.push_str(&change);
                sql.push_str(&rows);
            }
            1 => {
                self.tags.push("shift-last".to_owned());
                self.insert(&mut rows, "shift-last");
                behind.end = self.changes.len();
                sql.push_str(&rows);
                sql.push_str(&change);
            }
            _ => {
                self.tags.push("shift-before".to_owned());
                sql.push_str(&change);
                sql.push_str("commit;begin;");
                self.insert(&mut rows, "shift-before");
                if self.may_change() {
                    let row = self.any_row(&mut rows);
                    self.update(&mut rows, row, "shift-before");
                }
                sql.push_str(&rows);
            }
        }
        sql.push_str("commit;");
        self.commit(&sql).await;
        let was_guarded = self.was_guarded(shift);
        self.shifted.push(Shifted { shift, at: Instant::now(), behind, was_guarded });
    }

    /// Whether what rights change of had row security before.
    fn was_guarded(&self, shift: Shift) -> bool {
        let mut earlier = self.shifted.iter().map(|shifted| shifted.shift).rev();
        if shift == Shift::LeavesShut {
            return self.scene.leaves.is_enabled || earlier.any(|one| one == Shift::LeavesShut);
        }
        let switched =
            earlier.find(|one| [Shift::SecurityEnabled, Shift::SecurityDisabled].contains(one));
        switched.map_or(self.scene.guard.is_enabled, |one| one == Shift::SecurityEnabled)
    }

    /// Another table takes the name: made anew, or put in the place of the first one.
    fn another_table(&mut self) -> String {
        let shape = &self.scene.shape;
        let table = shape.table();
        if self.dice.chance(50) {
            let made = (self.scene.table(), self.scene.publish());
            return format!("drop table {table} cascade;{}{}", made.0, made.1);
        }
        self.tags.push("swapped".to_owned());
        let mut next = self.scene.clone();
        next.shape.name = format!("next of {}", shape.name);
        format!(
            "{}drop table {table} cascade;alter table {} rename to {};{}",
            next.table(),
            next.shape.table(),
            quoted(&shape.name),
            self.scene.publish()
        )
    }

    /// The table is dropped and made again under its name.
    pub async fn recreate(&mut self) {
        self.tags.push("recreated".to_owned());
        self.rows.clear();
        // It is looked at for the first time.
        self.shifted.clear();
        self.scene.is_reversed = self.dice.chance(50);
        let mut sql = format!("begin;{}", self.another_table());
        if self.dice.chance(50) {
            self.tags.push("recreated-with-rows".to_owned());
        } else {
            sql.push_str("commit;begin;");
        }
        for _ in 0..=self.dice.below(2) {
            self.insert(&mut sql, "recreated");
        }
        sql.push_str("commit;begin;");
        self.insert(&mut sql, "after-recreated");
        if self.may_change() {
            let row = self.any_row(&mut sql);
            self.update(&mut sql, row, "after-recreated");
        }
        sql.push_str("commit;");
        self.commit(&sql).await;
    }
}
