//! What can be asked of a chat, each as one transaction of its caller, whichever route asked.
//!
//! Every call may be made twice and does its work once: ids are the client's, and what is done is not done again.

use std::sync::Arc;

use axum::http::StatusCode;

use super::link::{Done, Step};
use super::pool::Pools;
use super::problem::Problem;
use super::text::{DELIVERY, OPENED, SAID, Texts};
use crate::config::{Chat as Settings, Times};
use crate::model::Principal;

/// A chat in a database.
#[derive(Debug)]
pub(super) struct Calls {
    settings: Settings,
    texts: Texts,
    pools: Arc<Pools>,
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct As<'a> {
    pub(super) principal: &'a Arc<Principal>,
    /// The token's `sub`; empty when there is none.
    pub(super) sub: &'a str,
}

/// A session to be opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opening<'a> {
    pub(super) id: &'a str,
    /// Whose it is, if not the caller's.
    pub(super) visitor: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) email: Option<&'a str>,
    pub(super) subject: Option<&'a str>,
    pub(super) message: Option<&'a str>,
}

/// A message to be stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saying<'a> {
    pub(super) id: &'a str,
    pub(super) body: &'a str,
    pub(super) name: Option<&'a str>,
}

/// Which side of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Visitor,
    Agent,
}

/// Which sessions are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// All but those that are closed.
    Open,
    /// Those of one status, by what it means.
    Only(&'static str),
}

/// A page of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    pub(super) limit: &'a str,
    pub(super) before: Option<&'a str>,
}

/// An answer in JSON, and whether it was made by this call.
pub(super) struct Stored {
    pub(super) json: String,
    pub(super) is_new: bool,
}

impl Calls {
    pub(super) const fn new(settings: Settings, texts: Texts, pools: Arc<Pools>) -> Self {
        Self { settings, texts, pools }
    }

    /// Opens a session, or finds it opened.
    pub(super) async fn open(&self, by: As<'_>, opening: Opening<'_>) -> Result<Stored, Problem> {
        let mut values = vec![Some(opening.id)];
        values.extend(self.opened(by, opening));
        let steps = [
            Step::new(&self.texts.open, values),
            Step::new(&self.texts.session, [Some(opening.id)]),
        ];
        let done = self.run(by, &steps).await?;
        let taken = || Problem::new(StatusCode::CONFLICT, "This id belongs to another chat.");
        let json = last(&done)?.text(0).ok_or_else(taken)?.to_owned();
        Ok(Stored { json, is_new: did(&done) })
    }

    /// One session.
    pub(super) async fn session(&self, by: As<'_>, id: &str) -> Result<String, Problem> {
        let done = self.run(by, &[Step::new(&self.texts.session, [Some(id)])]).await?;
        found(last(&done)?)
    }

    /// Sessions, those with the newest messages first.
    pub(super) async fn sessions(
        &self,
        by: As<'_>,
        which: Which,
        page: Page<'_>,
    ) -> Result<String, Problem> {
        let texts =
            if page.before.is_some() { &self.texts.sessions_after } else { &self.texts.sessions };
        let [of_status, but] = texts;
        let (text, status) = match which {
            Which::All => (but, None),
            Which::Open => (but, Some(self.word("closed"))),
            Which::Only(meaning) => (of_status, Some(self.word(meaning))),
        };
        let mut values = vec![Some(page.limit), status];
        values.extend(page.before.map(Some));
        found(last(&self.run(by, &[Step::new(text, values)]).await?)?)
    }

    /// Messages of a session, oldest first.
    pub(super) async fn history(
        &self,
        by: As<'_>,
        session: &str,
        page: Page<'_>,
    ) -> Result<String, Problem> {
        let step = paged(&self.texts.history, session, page);
        found(last(&self.run(by, &[step]).await?)?)
    }

    /// Messages of a visitor over all sessions, oldest first.
    pub(super) async fn history_of(
        &self,
        by: As<'_>,
        visitor: &str,
        page: Page<'_>,
    ) -> Result<String, Problem> {
        let step = paged(&self.texts.history_of, visitor, page);
        found(last(&self.run(by, &[step]).await?)?)
    }

    /// Stores a message of the caller, or finds it stored.
    pub(super) async fn say(
        &self,
        by: As<'_>,
        session: &str,
        saying: Saying<'_>,
    ) -> Result<Stored, Problem> {
        let sides = [Side::Visitor, Side::Agent];
        let mut steps: Vec<Step<'_>> = self
            .texts
            .say
            .iter()
            .zip(sides)
            .map(|(text, side)| {
                let mut values = vec![Some(session), Some(saying.id), Some(by.sub)];
                values.extend(self.said(by, side, saying));
                Step::new(text, values)
            })
            .collect();
        self.follow(&mut steps, saying.id);
        steps.push(Step::new(&self.texts.said, [Some(session), Some(saying.id)]));
        let done = self.run(by, &steps).await?;
        let answer = last(&done)?;
        if answer.count == 0 {
            return Err(Problem::no_chat());
        }
        let taken = || Problem::new(StatusCode::CONFLICT, "This id belongs to another message.");
        let json = answer.text(0).ok_or_else(taken)?.to_owned();
        Ok(Stored { json, is_new: did(&done) || did(done.get(1..).unwrap_or_default()) })
    }

    /// Stores a message in the newest open session of a visitor, who gets one when there is none.
    pub(super) async fn say_to(
        &self,
        by: As<'_>,
        visitor: &str,
        side: Side,
        opening: Opening<'_>,
        saying: Saying<'_>,
    ) -> Result<Stored, Problem> {
        let closed = Some(self.word("closed"));
        let opening = Opening { visitor: Some(visitor), message: Some(saying.body), ..opening };
        let mut opened = vec![Some(visitor), closed, Some(saying.id)];
        opened.extend(self.opened(by, opening));
        let mut said = vec![Some(visitor), Some(saying.id), closed];
        said.extend(self.said(by, side, saying));
        let mut steps = vec![
            Step::new(&self.texts.turn, [Some(visitor)]),
            Step::new(&self.texts.open_if_none, opened),
            Step::new(&self.texts.say_to, said),
        ];
        self.follow(&mut steps, saying.id);
        steps.push(Step::new(&self.texts.said_to, [Some(visitor), Some(saying.id)]));
        let done = self.run(by, &steps).await?;
        let unseen = || {
            let detail = "The message is not there for the caller: the id belongs to another, or it may not be read.";
            Problem::new(StatusCode::CONFLICT, detail)
        };
        let json = last(&done)?.text(0).ok_or_else(unseen)?.to_owned();
        Ok(Stored { json, is_new: did(done.get(2..).unwrap_or_default()) })
    }

    /// Gives a session to the caller.
    pub(super) async fn assign(&self, by: As<'_>, id: &str) -> Result<String, Problem> {
        let (Some(assign), Some(assigned)) = (&self.texts.assign, &self.texts.assigned) else {
            return Err(lacking("assignment"));
        };
        let words = [Some(self.word("active")), Some(self.word("closed"))];
        let taking = [[Some(id), Some(by.sub)], words].concat();
        let steps = [Step::new(assign, taking), Step::new(assigned, [Some(id), Some(by.sub)])];
        let done = self.run(by, &steps).await?;
        let answer = last(&done)?;
        let json = found(answer)?;
        if answer.is(1) {
            return Ok(json);
        }
        Err(if answer.is(2) {
            Problem::new(StatusCode::CONFLICT, "Somebody else has this chat, or it is closed.")
        } else {
            Problem::new(StatusCode::FORBIDDEN, "Only an agent takes a chat.")
        })
    }

    /// Closes a session.
    pub(super) async fn close(&self, by: As<'_>, id: &str) -> Result<String, Problem> {
        let closed = Some(self.word("closed"));
        let steps = [
            Step::new(&self.texts.close, self.closing(by, id)),
            Step::new(&self.texts.closed, [Some(id), closed]),
        ];
        let done = self.run(by, &steps).await?;
        let answer = last(&done)?;
        let json = found(answer)?;
        if answer.is(1) {
            return Ok(json);
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "The caller may not close this chat."))
    }

    /// Closes all sessions of a visitor; how many were open.
    pub(super) async fn close_all(&self, by: As<'_>, visitor: &str) -> Result<u64, Problem> {
        let done =
            self.run(by, &[Step::new(&self.texts.close_all, self.closing(by, visitor))]).await?;
        Ok(last(&done)?.count)
    }

    /// Rates a session.
    pub(super) async fn rate(
        &self,
        by: As<'_>,
        id: &str,
        rating: &str,
        feedback: Option<&str>,
    ) -> Result<String, Problem> {
        let Some(rate) = &self.texts.rate else { return Err(lacking("rating")) };
        let mut values = vec![Some(id), Some(rating)];
        if self.settings.sessions.column("feedback").is_some() {
            values.push(feedback);
        }
        let steps = [Step::new(rate, values), Step::new(&self.texts.session, [Some(id)])];
        let done = self.run(by, &steps).await?;
        let json = found(last(&done)?)?;
        if did(&done) {
            return Ok(json);
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "The caller may not rate this chat."))
    }

    /// Marks what the other side said as read.
    pub(super) async fn read(&self, by: As<'_>, id: &str) -> Result<(), Problem> {
        let Some(read) = &self.texts.read else { return Err(lacking("receipt")) };
        let sides = [Some(self.word("visitor")), Some(self.word("agent"))];
        let mut values = [[Some(id), Some(by.sub)], sides].concat();
        if self.settings.messages.column(DELIVERY).is_some() {
            values.push(Some(self.word("read")));
        }
        let steps = [Step::new(read, values), Step::new(&self.texts.session, [Some(id)])];
        found(last(&self.run(by, &steps).await?)?).map(drop)
    }

    /// Everybody who answers.
    pub(super) async fn agents(&self, by: As<'_>) -> Result<String, Problem> {
        let Some(agents) = &self.texts.agents else { return Ok("[]".to_owned()) };
        found(last(&self.run(by, &[Step::new(agents, [])]).await?)?)
    }

    /// How much there is of a visitor's, as the caller sees it.
    pub(super) async fn counts(&self, by: As<'_>, visitor: &str) -> Result<String, Problem> {
        let values = [Some(visitor), Some(self.word("closed"))];
        found(last(&self.run(by, &[Step::new(&self.texts.counts, values)]).await?)?)
    }

    /// The word for a side.
    pub(super) fn side(&self, side: Side) -> &str {
        self.word(match side {
            Side::Visitor => "visitor",
            Side::Agent => "agent",
        })
    }

    async fn run(&self, by: As<'_>, steps: &[Step<'_>]) -> Result<Vec<Done>, Problem> {
        self.pools.run(by.principal, steps).await
    }

    fn word(&self, meaning: &str) -> &str {
        self.settings.word(meaning)
    }

    /// Values of a new session, for the columns that there are.
    fn opened<'a>(&'a self, by: As<'a>, opening: Opening<'a>) -> Vec<Option<&'a str>> {
        let mut values = vec![Some(opening.id)];
        let columns = OPENED.iter().filter(|name| self.settings.sessions.column(name).is_some());
        values.extend(columns.map(|name| match *name {
            "visitor" => opening.visitor.or(filled(by.sub)),
            "status" => Some(self.word("waiting")),
            "name" => opening.name,
            "email" => opening.email,
            "subject" => opening.subject,
            _ => opening.message,
        }));
        values
    }

    /// Values of a new message, for the columns that there are.
    fn said<'a>(&'a self, by: As<'a>, side: Side, saying: Saying<'a>) -> Vec<Option<&'a str>> {
        let columns = SAID.iter().chain([&DELIVERY]);
        let columns = columns.filter(|name| self.settings.messages.column(name).is_some());
        let value = |name: &&'static str| match *name {
            "id" | "client_id" => Some(saying.id),
            "sender" => Some(self.side(side)),
            "body" => Some(saying.body),
            "name" => saying.name,
            "sender_id" => filled(by.sub),
            _ => Some(self.word("sent")),
        };
        columns.map(value).collect()
    }

    /// What else changes with a message, where no trigger sees to it.
    fn follow<'a>(&'a self, steps: &mut Vec<Step<'a>>, id: &'a str) {
        if self.settings.times == Times::Database {
            return;
        }
        steps.extend(self.texts.touch.as_ref().map(|touch| Step::new(touch, [Some(id)])));
        let words = ["active", "waiting", "agent"].map(|word| Some(self.word(word)));
        let values = std::iter::once(Some(id)).chain(words);
        steps.push(Step::new(&self.texts.activate, values));
    }

    fn closing<'a>(&'a self, by: As<'a>, which: &'a str) -> Vec<Option<&'a str>> {
        let mut values = vec![Some(which), Some(self.word("closed"))];
        let is_noted = self.settings.sessions.column("closed_by").is_some();
        if is_noted && self.settings.times == Times::Relay {
            values.push(filled(by.sub));
        }
        values
    }
}

fn paged<'a>([newest, before]: &'a [String; 2], of: &'a str, page: Page<'a>) -> Step<'a> {
    let text = if page.before.is_some() { before } else { newest };
    let mut values = vec![Some(of), Some(page.limit)];
    values.extend(page.before.map(Some));
    Step::new(text, values)
}

fn filled(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn last(done: &[Done]) -> Result<&Done, Problem> {
    done.last().ok_or_else(|| Problem::broken("Nothing was asked of the database."))
}

/// Whether the first of these changed anything.
fn did(done: &[Done]) -> bool {
    done.first().is_some_and(|done| done.count > 0)
}

fn found(done: &Done) -> Result<String, Problem> {
    done.text(0).map(str::to_owned).ok_or_else(Problem::no_chat)
}

fn lacking(what: &str) -> Problem {
    let detail = format!("This chat's tables have no {what}.");
    Problem::new(StatusCode::NOT_IMPLEMENTED, detail)
}
