//! What one subject may use, over all its sockets and requests, and what one socket may.
//!
//! A subject is a caller as [`CallerIdentity`] knows it: the `sub` of a token, or where the token has none (anonymous and
//! service keys) its role and the network it comes from. A socket has a seat of every subject that one of its channels acts for.
//!
//! The map is bounded: whoever has no seat and used nothing lately is forgotten, which changes nothing for it. Overflow:
//! when as many subjects are busy as the map holds, the next one has limits that are its own for that one channel only.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Limits, Live};
use crate::egress::budget::Budget;
use crate::model::CallerIdentity;

/// What is counted by the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A join or a new token.
    Join,
    /// A broadcast.
    Message,
    /// A presence message.
    Presence,
    /// A frame that says nothing to anybody: whatever is no broadcast that was passed on.
    Frame,
}

impl Use {
    /// The word for the metrics when a socket has no more of it, and when its subject has not.
    const fn codes(self) -> [&'static str; 2] {
        match self {
            Self::Join => ["ConnectionJoinRateLimitReached", "SubjectJoinRateLimitReached"],
            Self::Message => ["MessageRateLimitReached", "SubjectMessageRateLimitReached"],
            Self::Presence => ["PresenceRateLimitReached", "SubjectPresenceRateLimitReached"],
            Self::Frame => ["FrameRateLimitReached", "SubjectFrameRateLimitReached"],
        }
    }
}

/// So much a second of everything.
#[derive(Debug)]
pub(super) struct Allowance {
    joins: Budget,
    messages: Budget,
    presence: Budget,
    frames: Budget,
}

/// What one subject may use.
#[derive(Debug)]
pub struct Subject {
    allowance: Allowance,
    /// Broadcasts by HTTP.
    posts: Budget,
    posts_per_second: AtomicU32,
    sockets: AtomicUsize,
    most_sockets: AtomicUsize,
}

/// One socket of a subject; given back when dropped.
#[derive(Debug)]
pub struct Seat(Arc<Subject>);

/// All subjects that have a seat or used something lately.
#[derive(Debug)]
pub(super) struct Subjects {
    limits: Live<Limits>,
    most: usize,
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By a hash of the caller that nobody outside can compute.
    subjects: HashMap<u64, Arc<Subject>>,
    /// So many are looked through for those that can be forgotten.
    sweep_at: usize,
    swept: Option<Instant>,
}

/// The word for the metrics when a subject has too many sockets.
pub(super) const TOO_MANY_SOCKETS: &str = "SubjectConnectionRateLimitReached";

/// Fewer are never looked through.
const FEW: usize = 256;

/// A full map is looked through this often at most.
const REST: Duration = Duration::from_secs(1);

/// Frames a second that no socket is closed for because its subject sends too many on others.
const QUIET: u32 = 10;

/// So many frames of one socket that say nothing are few: as each channel of a socket that comes back sends at once.
pub(super) fn quiet(limits: &Limits, now: Instant) -> Budget {
    let channels = u64::try_from(limits.channels).unwrap_or(u64::MAX);
    let burst = channels.saturating_mul(4).min(u64::from(limits.frames_per_second));
    Budget::with_burst(QUIET, burst, now)
}

impl Allowance {
    /// What one socket may use.
    pub(super) fn of_socket(limits: &Limits, now: Instant) -> Self {
        let channels = u64::try_from(limits.channels).unwrap_or(u64::MAX);
        let joins = limits.connection_joins_per_second;
        let presence = limits.presence_messages_per_second;
        Self {
            // Each channel of a socket that comes back joins, and is given a new token.
            joins: Budget::with_burst(joins, channels.saturating_mul(2), now),
            messages: Budget::new(limits.messages_per_second, now),
            presence: Budget::with_burst(presence, channels, now),
            frames: Budget::new(limits.frames_per_second, now),
        }
    }

    fn of_subject(limits: &Limits, now: Instant) -> Self {
        Self {
            joins: Budget::new(limits.subject_joins_per_second, now),
            messages: Budget::new(limits.subject_messages_per_second, now),
            presence: Budget::new(limits.subject_presence_messages_per_second, now),
            frames: Budget::new(limits.subject_frames_per_second, now),
        }
    }

    /// Takes so much for a socket and its subject; the word for the metrics when one of them has not enough.
    pub(super) fn take(
        &self,
        subject: Option<&Subject>,
        what: Use,
        count: u32,
        now: Instant,
    ) -> Result<(), &'static str> {
        let [of_socket, of_subject] = what.codes();
        if !self.of(what).take(count, now) {
            return Err(of_socket);
        }
        match subject {
            Some(subject) if !subject.take(what, count, now) => Err(of_subject),
            _ => Ok(()),
        }
    }

    const fn of(&self, what: Use) -> &Budget {
        match what {
            Use::Join => &self.joins,
            Use::Message => &self.messages,
            Use::Presence => &self.presence,
            Use::Frame => &self.frames,
        }
    }

    fn is_rested(&self, now: Instant) -> bool {
        let all = [&self.joins, &self.messages, &self.presence, &self.frames];
        all.iter().all(|budget| budget.is_rested(now))
    }
}

impl Subject {
    /// Takes so much; false, and nothing taken, when it has not enough.
    pub(super) fn take(&self, what: Use, count: u32, now: Instant) -> bool {
        self.allowance.of(what).take(count, now)
    }

    /// Takes so many broadcasts by HTTP; false, and nothing taken, when it has not enough.
    pub(super) fn post(&self, count: u32, now: Instant) -> bool {
        self.posts.take(count, now)
    }

    /// Broadcasts by HTTP: a second, at once after a rest, and at once now.
    pub(super) fn posts(&self, now: Instant) -> [u64; 3] {
        let per_second = self.posts_per_second.load(Ordering::Relaxed);
        [u64::from(per_second), self.posts.most(), self.posts.left(now)]
    }

    /// A seat on one more socket, unless it has too many.
    pub(super) fn seat(self: &Arc<Self>) -> Option<Arc<Seat>> {
        let before = self.sockets.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        (before < self.most_sockets.load(Ordering::Relaxed)).then(|| Arc::new(seat))
    }

    /// Has the limits that are in force now, which may be others than when it came.
    fn heed(&self, limits: &Limits) {
        let Allowance { joins, messages, presence, frames } = &self.allowance;
        joins.set_rate(limits.subject_joins_per_second);
        messages.set_rate(limits.subject_messages_per_second);
        presence.set_rate(limits.subject_presence_messages_per_second);
        frames.set_rate(limits.subject_frames_per_second);
        self.posts.set_rate(limits.subject_http_messages_per_second);
        let per_second = limits.subject_http_messages_per_second;
        self.posts_per_second.store(per_second, Ordering::Relaxed);
        self.most_sockets.store(limits.subject_connections, Ordering::Relaxed);
    }
}

impl Seat {
    /// Whose it is.
    pub(super) const fn subject(&self) -> &Arc<Subject> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Subjects {
    /// Nobody is known yet.
    pub(super) fn new(limits: impl Into<Live<Limits>>) -> Self {
        let limits = limits.into();
        Self {
            // A socket rarely has more than one, and requests have some, too.
            most: limits.connections.saturating_mul(2).max(FEW),
            hasher: RandomState::new(),
            known: Mutex::new(Known { sweep_at: FEW, ..Known::default() }),
            limits,
        }
    }

    /// What a caller may use.
    pub(super) fn of(&self, caller: &CallerIdentity, now: Instant) -> Arc<Subject> {
        let key = self.hasher.hash_one(caller);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subject) = known.subjects.get(&key) {
            subject.heed(&self.limits);
            return Arc::clone(subject);
        }
        let is_full = self.most <= known.subjects.len();
        let is_tired = is_full && known.swept.is_some_and(|swept| now < swept + REST);
        if known.sweep_at <= known.subjects.len() && !is_tired {
            known.swept = Some(now);
            // References to one that has none but the map's are made here only.
            let is_busy = |subject: &Arc<Subject>| {
                1 < Arc::strong_count(subject)
                    || !subject.allowance.is_rested(now)
                    || !subject.posts.is_rested(now)
            };
            known.subjects.retain(|_, subject| is_busy(subject));
            known.subjects.shrink_to(FEW);
            known.sweep_at = (known.subjects.len() * 2).clamp(FEW, self.most);
        }
        let subject = Arc::new(Subject {
            allowance: Allowance::of_subject(&self.limits, now),
            posts: Budget::new(self.limits.subject_http_messages_per_second, now),
            posts_per_second: AtomicU32::new(self.limits.subject_http_messages_per_second),
            sockets: AtomicUsize::new(0),
            most_sockets: AtomicUsize::new(self.limits.subject_connections),
        });
        if known.subjects.len() < self.most {
            known.subjects.insert(key, Arc::clone(&subject));
        }
        subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::{Network, Principal};

    fn limits() -> Limits {
        let given = |name: &str| match name {
            "RELAY_POSTGRES__URL" => Some("postgres://127.0.0.1/x".to_owned()),
            "RELAY_AUTH__JWT_SECRET" => Some("x".repeat(32)),
            "RELAY_LIMITS__CONNECTIONS" => Some("300".to_owned()),
            "RELAY_LIMITS__SUBJECT_CONNECTIONS" => Some("2".to_owned()),
            "RELAY_LIMITS__SUBJECT_MESSAGES_PER_SECOND" => Some("1".to_owned()),
            _ => None,
        };
        Config::load(None, &given).unwrap().0.limits
    }

    fn of(subjects: &Subjects, sub: &str, now: Instant) -> Arc<Subject> {
        subjects.of(&CallerIdentity::Subject(sub.into()), now)
    }

    fn count(subjects: &Subjects) -> usize {
        subjects.known.lock().unwrap().subjects.len()
    }

    #[test]
    fn who_names_no_subject_shares_with_its_network_and_its_role() {
        let (subjects, now) = (Subjects::new(&limits()), Instant::now());
        let nameless = |role: &str, address: &str, claims: &str| {
            let network = Network::of(address.parse().unwrap());
            subjects.of(&CallerIdentity::of(&Principal::new(role, claims), network), now)
        };
        let anon = nameless("anon", "192.0.2.1", "{}");
        for claims in ["{}", r#"{"sub":null}"#, r#"{"sub":""}"#, "nonsense"] {
            assert!(Arc::ptr_eq(&anon, &nameless("anon", "192.0.2.1", claims)), "{claims}");
        }
        assert!(!Arc::ptr_eq(&anon, &nameless("anon", "192.0.2.2", "{}")));
        assert!(!Arc::ptr_eq(&anon, &nameless("service_role", "192.0.2.1", "{}")));
        assert!(!Arc::ptr_eq(&of(&subjects, "a", now), &of(&subjects, "b", now)));
        assert!(Arc::ptr_eq(&of(&subjects, "a", now), &of(&subjects, "a", now)));
    }

    #[test]
    fn a_seat_is_taken_and_given_back() {
        let (subjects, now) = (Subjects::new(&limits()), Instant::now());
        let ann = of(&subjects, "ann", now);
        let seats = [ann.seat().unwrap(), ann.seat().unwrap()];
        assert!(ann.seat().is_none() && of(&subjects, "bob", now).seat().is_some());
        drop(seats);
        assert!(ann.seat().is_some());
    }

    #[test]
    fn limits_that_are_reloaded_count_for_a_subject_that_never_leaves() {
        let (live, now) = (Live::new(limits()), Instant::now());
        let subjects = Subjects::new(live.clone());
        let ann = of(&subjects, "ann", now);
        let _seats = [ann.seat().unwrap(), ann.seat().unwrap()];
        assert!(ann.take(Use::Message, 5, now) && !ann.take(Use::Message, 1, now));
        live.replace(Limits {
            subject_connections: 3,
            subject_messages_per_second: 1000,
            subject_http_messages_per_second: 7,
            ..limits()
        });
        let again = of(&subjects, "ann", now);
        assert!(Arc::ptr_eq(&ann, &again) && again.seat().is_some());
        assert!(ann.take(Use::Message, 900, now + Duration::from_secs(1)));
        assert_eq!(ann.posts(now), [7, 35, 35]);
    }

    #[test]
    fn a_socket_pays_first_and_then_its_subject() {
        let (subjects, now) = (Subjects::new(&limits()), Instant::now());
        let ann = of(&subjects, "ann", now);
        let socket = || Allowance::of_socket(&limits(), now);
        let (first, second) = (socket(), socket());
        for _ in 0..5 {
            assert_eq!(first.take(Some(&ann), Use::Message, 1, now), Ok(()));
        }
        let refused = second.take(Some(&ann), Use::Message, 1, now);
        assert_eq!(refused, Err("SubjectMessageRateLimitReached"));
        assert_eq!(second.take(None, Use::Message, 1, now), Ok(()));
        assert_eq!(second.take(None, Use::Message, 5000, now), Err("MessageRateLimitReached"));
    }

    #[test]
    fn the_idle_are_forgotten_and_the_busy_are_not() {
        let (subjects, now) = (Subjects::new(&limits()), Instant::now());
        let seated = of(&subjects, "seated", now).seat().unwrap();
        assert!(of(&subjects, "speaker", now).take(Use::Message, 1, now));
        for stranger in 0..10_000 {
            of(&subjects, &stranger.to_string(), now);
        }
        assert!(count(&subjects) <= FEW, "{}", count(&subjects));
        assert!(Arc::ptr_eq(seated.subject(), &of(&subjects, "seated", now)));
        assert!(!of(&subjects, "speaker", now).allowance.is_rested(now));
        let later = now + Duration::from_secs(1);
        assert!(of(&subjects, "speaker", later).allowance.is_rested(later));
    }

    #[test]
    fn the_map_is_bounded_when_everybody_is_busy() {
        let (subjects, now) = (Subjects::new(&limits()), Instant::now());
        for stranger in 0..2_000 {
            assert!(of(&subjects, &stranger.to_string(), now).take(Use::Join, 1, now));
        }
        assert_eq!(count(&subjects), 600);
        let later = now + Duration::from_secs(1);
        of(&subjects, "late", later);
        assert_eq!(count(&subjects), 1);
    }
}
