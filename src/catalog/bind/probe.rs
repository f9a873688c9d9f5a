//! Operands parsed by Postgres, and operators tried on them, all in one statement, as the client's role and under its
//! settings.
//!
//! Promises: what is kept is in the text that the stream has, whatever the settings. What is kept of a channel's operands is not much more than its client wrote (`1e131071` is seven letters and
//! 131072 digits); what is longer is refused, and not even sent. A client whose words keep Postgres busy is refused for it.

use futures_util::FutureExt as _;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::terms::Terms;
use super::{BindContext, LIST_LIMIT, Unbound, texts};
use crate::catalog::Catalog;
use crate::model::Kind;
use crate::model::filter::{Condition, Operand, Operator};
use crate::postgres::{NotActing, PINNED};

/// Probes in one statement; Postgres allows 1664 columns, and a probe needs two.
const AT_ONCE: usize = 400;

/// Bytes of a canonical operand for each byte of the written one.
const SPREAD: usize = 4;
/// Bytes that a canonical operand may have beyond that: the largest `float8` is 309 digits long.
const SLACK: usize = 4 << 10;
/// Bytes that all canonical operands of a channel together may have beyond that.
const CHANNEL_SLACK: usize = 64 << 10;

/// A condition on its way to being bound: its operand is as written until [`ask`] returned it.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// Which of the channel's wishes it belongs to.
    pub(super) wish: usize,
    pub(super) condition: Condition,
    /// The schema of its column's type, as SQL has it.
    pub(super) schema: Box<str>,
}

/// Operands, in the order of the probes, as arrays of texts; or the place of the probe that failed and why.
type Answer = Result<Vec<Vec<Option<String>>>, Failure>;

/// What Postgres objected to.
struct Failure {
    place: usize,
    code: String,
    message: String,
}

/// Has all operands parsed; the probes come back with canonical ones.
pub(super) async fn ask(
    catalog: &Catalog,
    context: BindContext<'_>,
    terms: &[Terms],
    mut probes: Vec<Probe>,
) -> Result<Vec<Probe>, Unbound> {
    let asked: Vec<Condition> = probes
        .iter()
        .map(|probe| &probe.condition)
        .filter(|it| needs_asking(it))
        .cloned()
        .collect();
    if asked.is_empty() {
        return Ok(probes);
    }
    let answer = catalog
        .probes
        .ask_as(context.caller, context.principal.role(), |client| {
            let asked = asked.clone();
            async move { answer(client, &asked).await }.boxed()
        })
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(NotActing::Unreachable(error)) => return Err(error.into()),
        Err(NotActing::NoSuchRole) => {
            let refusal =
                terms.first().map(|terms| texts::missing_role(terms, context.principal.role()));
            return Err(Unbound::Refused(refusal.unwrap_or_default()));
        }
        Err(NotActing::NotAMember { login }) => {
            let refusal = terms
                .first()
                .map(|terms| texts::not_a_member(terms, context.principal.role(), &login));
            return Err(Unbound::Refused(refusal.unwrap_or_default()));
        }
    };
    let waiting = probes.iter_mut().filter(|probe| needs_asking(&probe.condition));
    match answer {
        Ok(operands) => {
            for (probe, operand) in waiting.zip(operands) {
                probe.condition.predicate.operand = canonical(&probe.condition, operand);
            }
            Ok(probes)
        }
        Err(failure) => {
            let probe =
                probes.iter().filter(|probe| needs_asking(&probe.condition)).nth(failure.place);
            let refusal = probe.and_then(|probe| {
                let terms = terms.get(probe.wish)?;
                Some(refusal(terms, context.principal.role(), probe, &failure))
            });
            Err(Unbound::Refused(refusal.unwrap_or_default()))
        }
    }
}

fn needs_asking(condition: &Condition) -> bool {
    matches!(condition.predicate.operand, Operand::Text(_))
}

/// Asks about all at once; when Postgres objects to one, about fewer and fewer until it is found.
async fn answer(client: &Client, asked: &[Condition]) -> Result<Answer, tokio_postgres::Error> {
    let bytes: usize = asked.iter().map(|condition| written(condition).len()).sum();
    let mut left = bytes.saturating_mul(SPREAD).saturating_add(CHANNEL_SLACK);
    let mut operands = Vec::with_capacity(asked.len());
    for (chunk, conditions) in asked.chunks(AT_ONCE).enumerate() {
        let place = |place| chunk * AT_ONCE + place;
        match try_all(client, conditions).await {
            Ok(found) => {
                for (at, operand) in found.into_iter().enumerate() {
                    let within = operand.and_then(|operand| {
                        let bytes = operand.iter().flatten().map(String::len).sum();
                        left = left.checked_sub(bytes)?;
                        Some(operand)
                    });
                    match within {
                        Some(operand) => operands.push(operand),
                        None => return Ok(Err(Failure::of_length(place(at)))),
                    }
                }
            }
            Err(error) => {
                let (at, error) = first_objection(client, conditions, error).await?;
                return Ok(Err(Failure::of(place(at), &error)));
            }
        }
    }
    Ok(Ok(operands))
}

/// The first of the conditions that Postgres objects to, and how; it objected to one of them with `error`.
async fn first_objection(
    client: &Client,
    mut conditions: &[Condition],
    mut error: tokio_postgres::Error,
) -> Result<(usize, tokio_postgres::Error), tokio_postgres::Error> {
    let mut place = 0;
    loop {
        if is_too_slow(&error) {
            return Ok((place, error));
        }
        if !is_objection(&error) {
            return Err(error);
        }
        let (first, second) = conditions.split_at(conditions.len() / 2);
        if first.is_empty() {
            return Ok((place, error));
        }
        match try_all(client, first).await {
            Err(objection) => (conditions, error) = (first, objection),
            Ok(_) => {
                place += first.len();
                conditions = second;
                // Of several, any may have been the one that was told of.
                if let Err(objection) = try_all(client, second).await {
                    error = objection;
                }
            }
        }
    }
}

/// Canonical operands as arrays of texts; `None` for one that is much longer than what was written. Whatever the types'
/// functions leave behind is rolled back.
async fn try_all(
    client: &Client,
    conditions: &[Condition],
) -> Result<Vec<Option<Vec<Option<String>>>>, tokio_postgres::Error> {
    let sql = statement(conditions);
    let texts: Vec<&str> = conditions.iter().map(written).collect();
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        texts.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
    // All three are sent at once.
    let (begun, rows, ended) = tokio::join!(
        client.batch_execute("begin read only"),
        client.query_typed(&sql, &parameters),
        client.batch_execute("rollback"),
    );
    begun?;
    let rows = rows?;
    ended?;
    let Some(row) = rows.first() else { return Ok(vec![None; conditions.len()]) };
    (0..conditions.len()).map(|place| row.try_get(place)).collect()
}

fn written(condition: &Condition) -> &str {
    if let Operand::Text(text) = &condition.predicate.operand { text } else { "" }
}

/// One column per condition: the operand as an array of texts, unless that is too long.
///
/// Operands are read, and operators tried, under the settings of the client's role; then the settings are pinned, and
/// the operands written out. The order is that of what depends on what: pinning counts everything that was read, and what
/// is written out needs the settings that were pinned.
fn statement(conditions: &[Condition]) -> String {
    let parts: Vec<Part> =
        conditions.iter().enumerate().map(|(place, it)| Part::of(it, place + 1)).collect();
    let tables: String = parts.iter().filter_map(|part| part.table.as_deref()).collect();
    let join = |texts: Vec<&str>, separator: &str| texts.join(separator);
    let read = join(parts.iter().map(|part| &*part.read).collect(), ", ");
    let counted = join(parts.iter().map(|part| &*part.counted).collect(), " and ");
    let shown = join(parts.iter().map(|part| &*part.shown).collect(), ", ");
    let pinned: Vec<String> = PINNED
        .iter()
        .chain(&[("search_path", "pg_catalog")])
        .map(|(name, value)| format!("pg_catalog.set_config('{name}', '{value}', true)"))
        .collect();
    let pinned = pinned.join(" || ");
    format!(
        "with {tables}read as materialized (select {read}),
         pinned as materialized (
             select {pinned} as settings from read where {counted})
         select {shown} from pinned cross join read"
    )
}

/// What a condition contributes to the statement.
struct Part {
    /// A common table expression of its own, with a comma after it: the elements of a list.
    table: Option<String>,
    /// Columns of what is read.
    read: String,
    /// True when all of it was read.
    counted: String,
    /// The operand, written out.
    shown: String,
}

impl Part {
    fn of(condition: &Condition, number: usize) -> Self {
        let parameter = format!("${number}::text");
        let type_name = &condition.spelling.type_name;
        let (operand, tried, list) =
            (format!("operand_{number}"), format!("tried_{number}"), format!("list_{number}"));
        let most = format!("{SLACK} + {SPREAD} * pg_catalog.octet_length({parameter})");
        // True of anything: a composite may be neither null nor not null.
        let counts = |column: &str| format!("pg_catalog.num_nulls(read.{column}) >= 0");
        let counted = counts(&tried);
        match condition.predicate.operator {
            Operator::In => {
                let written = format!("({parameter})::text[]");
                let element = read_as(condition, "element");
                // One more than there may be tells that there are too many.
                let table = format!(
                    "{list} as materialized (
                         select place, ({element})::{type_name} as operand, element is null as is_null
                         from pg_catalog.unnest({written}) with ordinality as list (element, place)
                         where place <= {}), ",
                    LIST_LIMIT + 1
                );
                let text = "case when not is_null then pg_catalog.format('%s', operand) end";
                let from = format!("from {list} where pinned.settings is not null");
                let bytes =
                    format!("coalesce((select sum(pg_catalog.octet_length({text})) {from}), 0)");
                let mut equality = condition.clone();
                equality.predicate.operator = Operator::Eq;
                let first = format!("{} ", read_as(condition, &format!("({written})[1]")));
                let equal = equality.sql(type_name, &first, &first);
                Self {
                    table: Some(table),
                    read: format!("{equal} as {tried}"),
                    counted: format!("{counted} and (select count(operand) from {list}) >= 0"),
                    shown: format!(
                        "case when {bytes} <= {most} then array(select {text} {from} order by place) end"
                    ),
                }
            }
            Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => Self {
                table: None,
                read: format!("{} as {tried}", condition.sql(type_name, "''", &parameter)),
                counted,
                shown: format!("array[{parameter}]"),
            },
            _ => {
                let text = read_as(condition, &parameter);
                let equal = condition.sql(type_name, &text, &text);
                let written = format!("pg_catalog.format('%s', read.{operand})");
                Self {
                    table: None,
                    read: format!("({text})::{type_name} as {operand}, {equal} as {tried}"),
                    counted: format!("{counted} and {}", counts(&operand)),
                    shown: format!(
                        "case when pinned.settings is not null
                             and pg_catalog.octet_length({written}) <= {most}
                         then array[{written}] end"
                    ),
                }
            }
        }
    }
}

/// The text as the type's input function is to read it: hexadecimal bytes may come without their prefix, and in a
/// list with a prefix that lost its backslash.
fn read_as(condition: &Condition, text: &str) -> String {
    match condition.sql_type.base().kind {
        Kind::Bytea => format!(r"'\x' || regexp_replace({text}, '^\\?x', '')"),
        _ => text.to_owned(),
    }
}

fn canonical(condition: &Condition, mut texts: Vec<Option<String>>) -> Operand {
    if condition.predicate.operator == Operator::In {
        return Operand::List(texts.into_iter().map(|text| text.map(Into::into)).collect());
    }
    let text = texts.pop().flatten().unwrap_or_default();
    Operand::Text(text.into())
}

/// Whether Postgres objects to the words, rather than being in no state to answer.
fn is_objection(error: &tokio_postgres::Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    class.is_some_and(|class| {
        !matches!(class, "08" | "25" | "40" | "53" | "55" | "57" | "58" | "XX")
    })
}

/// Whether the words kept Postgres busy for longer than a statement may take.
fn is_too_slow(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::QUERY_CANCELED)
}

impl Failure {
    fn of(place: usize, error: &tokio_postgres::Error) -> Self {
        if is_too_slow(error) {
            let message = "the filters of this channel take Postgres too long to read".to_owned();
            return Self { place, code: SqlState::QUERY_CANCELED.code().to_owned(), message };
        }
        let (code, message) = error.as_db_error().map_or_else(
            || (SqlState::INTERNAL_ERROR.code().to_owned(), String::new()),
            |said| (said.code().code().to_owned(), said.message().to_owned()),
        );
        Self { place, code, message }
    }

    /// An operand is much longer than what was written.
    fn of_length(place: usize) -> Self {
        let code = SqlState::PROGRAM_LIMIT_EXCEEDED.code().to_owned();
        let message = "a value of the filter is too long when written out".to_owned();
        Self { place, code, message }
    }
}

fn refusal(terms: &Terms, role: &str, probe: &Probe, failure: &Failure) -> String {
    if failure.code == SqlState::INSUFFICIENT_PRIVILEGE.code() {
        return texts::unusable(terms, &failure.message, &probe.schema, role);
    }
    if failure.code == SqlState::INVALID_REGULAR_EXPRESSION.code() {
        let (word, message) = (probe.condition.predicate.operator.word(), &failure.message);
        let reason = message.strip_prefix("invalid regular expression: ").unwrap_or(message);
        let text = format!("invalid regular expression for {word} filter: {reason}");
        return texts::raised(terms, &text);
    }
    texts::failed(terms, &failure.code, &failure.message)
}
