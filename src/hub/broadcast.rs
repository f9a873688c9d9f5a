//! A message to everyone in a topic, before any dialect wrote it.

use bytes::Bytes;

/// A message to everyone in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// The event; empty for [`Content::Whole`], which names its own.
    pub event: Box<str>,
    /// What is told.
    pub content: Content,
    /// What the relay adds about the message: a JSON object.
    pub meta: Option<Box<str>>,
}

/// What a broadcast tells. JSON texts were validated by whoever made the value: dialects put them on the wire as
/// they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The whole message as its sender wrote it, event and all: a JSON object.
    Whole(Box<str>),
    /// The payload of the event: any JSON value.
    Json(Box<str>),
    /// The payload of the event: bytes, for dialects that have a way to write them.
    Binary(Bytes),
}

impl Broadcast {
    /// A message that is passed on as it is. `message` is the text of a JSON object.
    pub fn whole(message: impl Into<Box<str>>) -> Self {
        Self { event: Box::default(), content: Content::Whole(message.into()), meta: None }
    }

    /// An event with a payload. `payload` is JSON text.
    pub fn json(event: impl Into<Box<str>>, payload: impl Into<Box<str>>) -> Self {
        Self { event: event.into(), content: Content::Json(payload.into()), meta: None }
    }

    /// An event with bytes.
    pub fn binary(event: impl Into<Box<str>>, payload: impl Into<Bytes>) -> Self {
        Self { event: event.into(), content: Content::Binary(payload.into()), meta: None }
    }

    /// The same with something said about it. `meta` is the text of a JSON object.
    #[must_use]
    pub fn with_meta(mut self, meta: impl Into<Box<str>>) -> Self {
        self.meta = Some(meta.into());
        self
    }
}
