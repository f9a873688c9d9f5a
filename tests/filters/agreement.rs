//! The router says what Postgres says, or leaves it to Postgres: every operator, over odd and random values.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use relay::model::filter::{Condition, Operator, Parameter};
use relay::model::{Cell, Column as RelationColumn, Event, Relation, ReplicaIdentity, Row};
use relay::router::{BindingId, CallerKey, Router, StepBudget};

use super::values::{COLUMNS, Column, Family, OPTIONAL, Random, expressions, like_patterns, pool};
use super::{catalog, try_bind, wish};
use crate::support::{Cluster, Database};

const SETTINGS: &str =
    "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres';
     set extra_float_digits = 1; set bytea_output = 'hex'";

/// Operands tried per column, operator and sign.
const OPERANDS: usize = 8;

/// A condition as asked of both sides.
struct Case {
    operator: Operator,
    filter: String,
    /// The same in plain SQL over the table.
    sql: String,
}

#[tokio::test]
async fn the_router_never_contradicts_postgres() {
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = std::env::var("SEED").map_or(seed, |text| text.parse().unwrap());
    let mut random = Random::new(seed);
    let database = Cluster::shared().database().await.with_roles().await;
    let columns = create(&database).await;
    let catalog = catalog(&database);
    let mut total = Tally::default();
    for column in columns {
        let table = format!("t_{}", column.name);
        let values = pool(column, &mut random);
        let rows = fill(&database, &table, column, &values).await;
        let cases = cases(column, &values, &mut random);
        let wishes: Vec<_> = cases.iter().map(|case| wish(&table, &case.filter)).collect();
        let mut bound = Vec::new();
        for chunk in wishes.chunks(300) {
            bound.extend(
                try_bind(&catalog, chunk)
                    .await
                    .unwrap_or_else(|text| panic!("{text} (SEED={seed})")),
            );
        }
        let conditions: Vec<_> = bound.iter().map(|bound| bound.filter[0].clone()).collect();
        let plain: Vec<_> = cases.iter().map(|case| case.sql.clone()).collect();
        let said = ask(&database, &table, &plain).await;
        let spelled: Vec<_> = conditions.iter().map(spelled).collect();
        let spelled_said = ask(&database, &table, &spelled).await;
        let router_said = route(&table, column, &rows, bound);
        let mut tally = Tally::default();
        for (place, case) in cases.iter().enumerate() {
            for (row, value) in rows.iter().enumerate() {
                let postgres = said[row][place];
                let shown = || {
                    format!("{} {:?} on {value:?} (SEED={seed})", case.filter, conditions[place])
                };
                assert_eq!(spelled_said[row][place], postgres, "as SQL: {}", shown());
                let router = router_said[row][place];
                assert!(
                    router.is_none_or(|router| router == postgres),
                    "router: {router:?}: {}",
                    shown()
                );
                tally.count(case.operator, router.is_some());
                let is_comparison = !matches!(
                    case.operator,
                    Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch
                );
                assert!(
                    !column.is_total || !is_comparison || router.is_some(),
                    "undecided: {}",
                    shown()
                );
            }
        }
        for (operator, (decided, asked)) in &tally.0 {
            assert!(
                *decided != 0 || !is_promised(column, operator),
                "{} {operator}: 0 of {asked}",
                column.name
            );
        }
        total.add(&tally);
    }
    let (decided, asked) = total.0.values().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    eprintln!("{decided} of {asked} cases decided; by operator: {:?}", total.0);
    assert!(20_000 < asked && asked / 2 < decided, "{decided} of {asked}");
}

#[derive(Default)]
struct Tally(BTreeMap<&'static str, (usize, usize)>);

impl Tally {
    fn count(&mut self, operator: Operator, is_decided: bool) {
        let entry = self.0.entry(operator.word()).or_default();
        entry.0 += usize::from(is_decided);
        entry.1 += 1;
    }

    fn add(&mut self, other: &Self) {
        for (operator, (decided, asked)) in &other.0 {
            let entry = self.0.entry(operator).or_default();
            *entry = (entry.0 + decided, entry.1 + asked);
        }
    }
}

/// Operators that must decide something on this column; null rows do not count towards it everywhere.
fn is_promised(column: &Column, operator: &str) -> bool {
    !(column.family == Family::CaseBlind
        || matches!(column.name, "lax" | "pair" | "reach") && operator != "is"
        || column.name == "dotted" && matches!(operator, "ilike" | "imatch"))
}

async fn create(database: &Database) -> Vec<&'static Column> {
    database
        .execute(
            "create type mood as enum ('sad', 'ok', 'happy', 'Ok');
             create type pair as (a int, b text);
             create domain short as varchar(20) check (value <> '')",
        )
        .await;
    let mut columns: Vec<&Column> = COLUMNS.iter().collect();
    for (needs, column) in OPTIONAL {
        if database.client().batch_execute(needs).await.is_ok() {
            columns.push(column);
        }
    }
    for Column { name, declared, .. } in &columns {
        database
            .execute(&format!(
                "create table t_{name} (id int generated always as identity primary key, {name} {declared});
                 alter publication supabase_realtime add table t_{name}"
            ))
            .await;
    }
    database.execute(SETTINGS).await;
    columns
}

/// Stores the values and null; returns them as the WAL would tell them.
async fn fill(
    database: &Database,
    table: &str,
    column: &Column,
    values: &[String],
) -> Vec<Option<String>> {
    let Column { name, declared, literal, family, .. } = column;
    let cut = if declared.contains("(6)") { 6 } else { 20 };
    for value in values {
        let literal_text = match family {
            Family::Bytes => format!("\\x{value}"),
            _ => {
                value.chars().take(if *family == Family::Text { cut } else { usize::MAX }).collect()
            }
        };
        database
            .execute(&format!(
                "insert into {table} ({name}) values ({}::{literal})",
                quoted(&literal_text)
            ))
            .await;
    }
    database.execute(&format!("insert into {table} ({name}) values (null)")).await;
    // A composite of nulls is null to `is null`, so null-ness must be asked in a way that tells them apart.
    let sql = format!(
        "select case when num_nulls({name}) = 0 then format('%s', {name}) end from {table} order by id"
    );
    database.query(&sql).await.iter().map(|row| row.get(0)).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn escaped(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn cases(column: &Column, values: &[String], random: &mut Random) -> Vec<Case> {
    let is_text = matches!(column.family, Family::Text | Family::CaseBlind);
    let mut cases = Vec::new();
    for operator in Operator::ALL {
        let operands: Vec<String> = match operator {
            Operator::Like | Operator::Ilike if is_text || column.family == Family::Bytes => {
                like_patterns(random)
            }
            Operator::Match | Operator::Imatch if is_text => expressions(random),
            Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => continue,
            Operator::Is if column.family == Family::Bool => {
                ["null", "true", "false", "unknown"].map(str::to_owned).to_vec()
            }
            Operator::Is => vec!["null".to_owned()],
            Operator::In => (0..OPERANDS)
                .map(|_| list(column, values, random))
                .chain(["{}".to_owned()])
                .collect(),
            _ => (0..OPERANDS).map(|_| random.pick(values).clone()).collect(),
        };
        // No collation without a locale can be matched with patterns.
        if column.name == "lax" && matches!(operator.word(), "like" | "ilike" | "match" | "imatch")
        {
            continue;
        }
        for operand in operands {
            for negated in [false, true] {
                let not = if negated { "not." } else { "" };
                let written = match operator {
                    Operator::In => format!("({})", &operand[1..operand.len() - 1]),
                    Operator::Is => operand.clone(),
                    _ if column.family == Family::Bytes && random.below(2) == 0 => {
                        escaped(&format!("\\x{operand}"))
                    }
                    _ => escaped(&operand),
                };
                let written = match operator {
                    Operator::Like | Operator::Ilike => escaped(&operand),
                    _ => written,
                };
                let filter = format!("{}={not}{}.{written}", column.name, operator.word());
                let sql = plain(column, operator, &operand);
                let sql = if negated { format!("not ({sql})") } else { sql };
                cases.push(Case { operator, filter, sql });
            }
        }
    }
    cases
}

/// An array literal of some of the values, null now and then.
fn list(column: &Column, values: &[String], random: &mut Random) -> String {
    let count = random.below(5);
    let elements: Vec<_> = (0..count)
        .map(|_| match (random.below(6), random.pick(values)) {
            (0, _) => "NULL".to_owned(),
            (_, value) if column.family == Family::Bytes => escaped(&format!("\\x{value}")),
            (_, value) => escaped(value),
        })
        .collect();
    format!("{{{}}}", elements.join(","))
}

/// The condition the way a person would write it, over the table's column.
fn plain(column: &Column, operator: Operator, operand: &str) -> String {
    let Column { name, literal, family, .. } = column;
    let text = match family {
        Family::Bytes => quoted(&format!("\\x{operand}")),
        _ => quoted(operand),
    };
    let looked_at = match family {
        Family::Bytes => format!("encode({name}, 'hex')"),
        Family::CaseBlind => name.to_string(),
        _ => format!("{name}::text"),
    };
    let qualified = |symbol: &str| match family {
        Family::CaseBlind => format!("operator(extensions.{symbol})"),
        _ => symbol.to_owned(),
    };
    let compared = |symbol: &str| format!("{name} {} {text}::{literal}", qualified(symbol));
    let pattern = match family {
        Family::CaseBlind => format!("{}::{literal}", quoted(operand)),
        _ => quoted(operand),
    };
    let matched = |symbol: &str| format!("{looked_at} {} {pattern}", qualified(symbol));
    match operator {
        Operator::Eq => compared("="),
        Operator::Neq => compared("<>"),
        Operator::Lt => compared("<"),
        Operator::Lte => compared("<="),
        Operator::Gt => compared(">"),
        Operator::Gte => compared(">="),
        Operator::In if *family == Family::Array => format!(
            "case when {name} is null then case when cardinality({text}::text[]) = 0 then false end \
             when exists (select from unnest({text}::text[]) as u (e) where {name} = e::{literal}) then true \
             when exists (select from unnest({text}::text[]) as u (e) where e is null) then null else false end",
            text = quoted(operand)
        ),
        Operator::In => format!("{name} {} any ({}::{literal}[])", qualified("="), quoted(operand)),
        Operator::Like => matched("~~"),
        Operator::Ilike => matched("~~*"),
        Operator::Match => matched("~"),
        Operator::Imatch => matched("~*"),
        Operator::Is => format!("{name} is {operand}"),
        Operator::IsDistinct if *family == Family::CaseBlind => {
            format!("({name} is null or not ({}))", compared("="))
        }
        Operator::IsDistinct => format!("{name} is distinct from {text}::{literal}"),
    }
}

/// The condition as the relay asks Postgres when it cannot decide, over the text of the column.
fn spelled(condition: &Condition) -> String {
    let operand = match condition.parameter() {
        Parameter::None => String::new(),
        Parameter::Text(text) => quoted(text),
        Parameter::List(elements) => {
            let element = |element: Option<&str>| element.map_or_else(|| "null".to_owned(), quoted);
            let all: Vec<_> = elements.into_iter().map(element).collect();
            format!("array[{}]::text[]", all.join(", "))
        }
    };
    let column = &condition.predicate.column;
    let text = format!("(case when num_nulls({column}) = 0 then format('%s', {column}) end)");
    condition.sql(&condition.spelling.type_name, &text, &operand)
}

/// What Postgres says of every row (outer) and expression (inner); null is false.
async fn ask(database: &Database, table: &str, expressions: &[String]) -> Vec<Vec<bool>> {
    let mut answers: Vec<Vec<bool>> = Vec::new();
    for chunk in expressions.chunks(500) {
        let each: Vec<_> = chunk.iter().map(|sql| format!("({sql}) is true")).collect();
        let sql = format!("select array[{}] from {table} order by id", each.join(", "));
        let rows = database.query(&sql).await;
        answers.resize(rows.len(), Vec::new());
        for (row, answer) in rows.iter().zip(&mut answers) {
            answer.extend(row.get::<_, Vec<bool>>(0));
        }
    }
    answers
}

/// What the router says; `None` where it leaves the verdict to Postgres.
fn route(
    table: &str,
    column: &Column,
    rows: &[Option<String>],
    bound: Vec<relay::model::Subscription>,
) -> Vec<Vec<Option<bool>>> {
    let type_oid = bound[0].filter[0].sql_type.oid;
    let mut router = Router::default();
    let ids: Vec<BindingId> =
        bound.into_iter().map(|bound| router.insert(&Arc::new(bound), CallerKey(1))).collect();
    let relation = Relation {
        oid: 1,
        generation: 1,
        schema: "public".into(),
        name: table.into(),
        identity: ReplicaIdentity::Full,
        columns: Box::new([RelationColumn {
            name: column.name.into(),
            type_oid,
            typmod: -1,
            is_key: false,
        }]),
    };
    let judge = |value: &Option<String>| {
        let cell = value.clone().map_or(Cell::Null, |text| Cell::Text(text.into()));
        let mut found = Vec::new();
        let row = Row { cells: Box::new([cell]) };
        router.candidates(
            ("public", table),
            Event::Insert,
            &relation,
            &row,
            &mut StepBudget::of_change(row.size()),
            &mut found,
        );
        let said: HashMap<_, _> = found
            .iter()
            .map(|candidate| (candidate.binding, candidate.undecided.is_empty()))
            .collect();
        assert_eq!(said.len(), found.len(), "a binding was found twice");
        let verdict = |id: &BindingId| match said.get(id) {
            Some(true) => Some(true),
            Some(false) => None,
            None => Some(false),
        };
        ids.iter().map(verdict).collect()
    };
    rows.iter().map(judge).collect()
}
