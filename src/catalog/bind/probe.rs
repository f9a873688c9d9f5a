//! Operands parsed by Postgres, and operators tried on them, all in one statement.

use futures_util::FutureExt as _;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::terms::Terms;
use super::{Unbound, texts};
use crate::catalog::Catalog;
use crate::model::Kind;
use crate::model::filter::{Condition, Operand, Operator};

/// Probes in one statement; Postgres allows 1664 columns, and a probe needs two.
const AT_ONCE: usize = 400;

/// A condition on its way to being bound: its operand is as written until [`ask`] returned it.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// Which of the channel's wishes it belongs to.
    pub(super) wish: usize,
    pub(super) condition: Condition,
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
        .ask(|client| {
            let asked = asked.clone();
            async move { answer(client, &asked).await }.boxed()
        })
        .await?;
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
                Some(refusal(terms, probe.condition.predicate.operator, &failure))
            });
            Err(Unbound::Refused(refusal.unwrap_or_default()))
        }
    }
}

fn needs_asking(condition: &Condition) -> bool {
    matches!(condition.predicate.operand, Operand::Text(_))
}

/// Asks about all at once; when Postgres objects to one, about each alone until it is found.
async fn answer(client: &Client, asked: &[Condition]) -> Result<Answer, tokio_postgres::Error> {
    let mut operands = Vec::with_capacity(asked.len());
    for (chunk, conditions) in asked.chunks(AT_ONCE).enumerate() {
        match try_all(client, conditions).await {
            Ok(mut found) => operands.append(&mut found),
            Err(error) if !is_objection(&error) => return Err(error),
            Err(first) => {
                for (place, condition) in conditions.iter().enumerate() {
                    match try_all(client, std::slice::from_ref(condition)).await {
                        Ok(_) => (),
                        Err(error) if !is_objection(&error) => return Err(error),
                        Err(error) => return Ok(Err(failure(chunk * AT_ONCE + place, &error))),
                    }
                }
                return Err(first);
            }
        }
    }
    Ok(Ok(operands))
}

async fn try_all(
    client: &Client,
    conditions: &[Condition],
) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let expressions = conditions.iter().enumerate().map(|(place, it)| expression(it, place + 1));
    let sql = format!("select {}", expressions.collect::<Vec<_>>().join(", "));
    let texts: Vec<&str> = conditions.iter().map(written).collect();
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        texts.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
    let rows = client.query_typed(&sql, &parameters).await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    (0..conditions.len()).map(|place| operand(row, place)).collect()
}

fn operand(row: &Row, place: usize) -> Result<Vec<Option<String>>, tokio_postgres::Error> {
    row.try_get(2 * place)
}

fn written(condition: &Condition) -> &str {
    if let Operand::Text(text) = &condition.predicate.operand { text } else { "" }
}

/// Two columns: the operand in the text its type's output function writes, and the operator applied to it.
fn expression(condition: &Condition, number: usize) -> String {
    let parameter = format!("${number}::text");
    let type_name = &condition.spelling.type_name;
    let canonical =
        |text: &str| format!("format('%s', ({})::{type_name})", read_as(condition, text));
    match condition.predicate.operator {
        Operator::In => {
            let list = format!("({parameter})::text[]");
            let element =
                format!("case when element is not null then {} end", canonical("element"));
            let elements = format!(
                "array(select {element} from unnest({list}) with ordinality as list (element, place) \
                 order by place)"
            );
            let mut equality = condition.clone();
            equality.predicate.operator = Operator::Eq;
            let first = format!("{} ", read_as(condition, &format!("({list})[1]")));
            format!("{elements}, {}", equality.sql(type_name, &first, &first))
        }
        Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => {
            format!("array[{parameter}], {}", condition.sql(type_name, "''", &parameter))
        }
        _ => {
            let operand = read_as(condition, &parameter);
            let tried = condition.sql(type_name, &operand, &operand);
            format!("array[{}], {tried}", canonical(&parameter))
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

fn failure(place: usize, error: &tokio_postgres::Error) -> Failure {
    let (code, message) = error.as_db_error().map_or_else(
        || (SqlState::INTERNAL_ERROR.code().to_owned(), String::new()),
        |said| (said.code().code().to_owned(), said.message().to_owned()),
    );
    Failure { place, code, message }
}

fn refusal(terms: &Terms, operator: Operator, failure: &Failure) -> String {
    if failure.code == SqlState::INVALID_REGULAR_EXPRESSION.code() {
        let (word, message) = (operator.word(), &failure.message);
        let reason = message.strip_prefix("invalid regular expression: ").unwrap_or(message);
        let text = format!("invalid regular expression for {word} filter: {reason}");
        return texts::raised(terms, &text);
    }
    texts::failed(terms, &failure.code, &failure.message)
}
