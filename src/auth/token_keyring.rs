//! The keys in force: the shared secret, and a key set that is kept fresh.
//!
//! A file is looked at every few seconds and an address every ten minutes. A `kid` that is not in the set asks for
//! a look at once, but no more often than the pace allows, whoever asks. While a set cannot be read or makes no
//! sense, the keys from before stay in force.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::jwks;
use super::keys::{Algorithm, Family, Key, KeySet};
use super::token_fetch::{Address, File, Source};
use crate::config::{Auth, JwksSource};
use crate::error::Error;
use crate::secret::Secret;
use crate::shutdown::Stage;

/// How long a token with an unknown `kid` waits for fresh keys.
const WAIT: Duration = Duration::from_secs(2);

/// The keys in force. Shared.
#[derive(Debug)]
pub(super) struct Keyring {
    secret: Option<Arc<Key>>,
    set: ArcSwap<KeySet>,
    /// Where the set is fetched from, if it is.
    address: Option<String>,
    refresh: Option<Refresh>,
    retired: CancellationToken,
}

/// How often the key set is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Unasked.
    pub(super) period: Duration,
    /// Unasked, after a failure.
    pub(super) retry: Duration,
    /// The least time between two looks, when asked.
    pub(super) gap: Duration,
}

#[derive(Debug)]
struct Refresh {
    pace: Pace,
    wanted: Notify,
    /// How many looks were finished.
    finished: watch::Sender<u64>,
    state: Mutex<Look>,
}

/// The last look at the source.
#[derive(Debug, Default)]
struct Look {
    started: Option<Instant>,
    is_running: bool,
}

impl Pace {
    const FILE: Self = Self {
        period: Duration::from_secs(3),
        retry: Duration::from_secs(3),
        gap: Duration::from_secs(1),
    };
    const ADDRESS: Self = Self {
        period: Duration::from_secs(600),
        retry: Duration::from_secs(30),
        gap: Duration::from_secs(10),
    };
}

impl Keyring {
    /// Loads the keys. A file or an address is watched by a task in `stage`.
    ///
    /// # Errors
    /// `Misconfigured`: a key set that cannot be read. An address is not asked yet.
    pub(super) fn new(auth: &Auth, stage: &Stage) -> Result<Arc<Self>, Error> {
        let secret = auth.jwt_secret.as_ref();
        match &auth.jwks {
            None => Ok(Arc::new(Self::fixed(secret, KeySet::default()))),
            Some(JwksSource::Inline(text)) => {
                Ok(Arc::new(Self::fixed(secret, jwks::parse(text, 1)?)))
            }
            Some(JwksSource::File(path)) => {
                let mut file = File::new(path);
                let text = file.load()?.unwrap_or_default();
                let set = jwks::parse(&text, 1)?;
                Ok(Self::watched(secret, set, Source::File(file), Pace::FILE, stage))
            }
            Some(JwksSource::Url(url)) => {
                let source = Source::Address(Address::new(url)?);
                Ok(Self::watched(secret, KeySet::default(), source, Pace::ADDRESS, stage))
            }
        }
    }

    fn fixed(secret: Option<&Secret<String>>, set: KeySet) -> Self {
        let secret = secret.map(|secret| Arc::new(Key::secret(secret.reveal().as_bytes())));
        let (set, retired) = (ArcSwap::from_pointee(set), CancellationToken::new());
        Self { secret, set, address: None, refresh: None, retired }
    }

    /// Begins with the key set of another one that is fetched from the same address: fetching it anew may fail.
    pub(super) fn inherit(&self, before: &Self) {
        if self.address.is_some() && self.address == before.address {
            self.set.store(before.set.load_full());
        }
    }

    /// Nobody asks it any more: it need not stay fresh.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    /// Keys that a task in `stage` keeps fresh from `source`.
    pub(super) fn watched(
        secret: Option<&Secret<String>>,
        set: KeySet,
        source: Source,
        pace: Pace,
        stage: &Stage,
    ) -> Arc<Self> {
        let finished = watch::Sender::new(0);
        // A file was read by whoever calls; an address is asked first of all.
        let started = match source {
            Source::File(_) => Some(Instant::now()),
            Source::Address(_) => None,
        };
        let address = source.address();
        let state = Mutex::new(Look { started, is_running: false });
        let refresh = Refresh { pace, wanted: Notify::new(), finished, state };
        let keyring =
            Arc::new(Self { refresh: Some(refresh), address, ..Self::fixed(secret, set) });
        let watcher = Arc::clone(&keyring);
        let stopping = stage.clone();
        stage.spawn(async move {
            tokio::select! {
                () = stopping.stopping() => {}
                () = watcher.retired.cancelled() => {}
                () = watcher.keep_fresh(source) => {}
            }
        });
        keyring
    }

    /// The number of the key set in force.
    pub(super) fn number(&self) -> u64 {
        self.set.load().number
    }

    /// The key for a token, and the number of the set that was in force: for HS the secret of that `kid` in the set,
    /// else the shared secret; for all others the public key of that `kid`. Waits for fresh keys when the `kid` is
    /// unknown and the shared secret is no choice.
    pub(super) async fn choose(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Option<(Arc<Key>, u64)> {
        let named = |kid| {
            let set = self.set.load();
            set.find(kid, algorithm).map(|key| (key, set.number))
        };
        // Before the look into the set: a token is never cached under a newer set than it was verified with.
        let number = self.number();
        if let Some(found) = kid.and_then(named) {
            return Some(found);
        }
        if let (Family::Hmac, Some(secret)) = (algorithm.family(), &self.secret) {
            return Some((Arc::clone(secret), number));
        }
        let (kid, refresh) = (kid?, self.refresh.as_ref()?);
        refresh.soon().await;
        named(kid)
    }

    /// Never returns.
    async fn keep_fresh(&self, mut source: Source) {
        let Some(refresh) = &self.refresh else { return };
        let seen = refresh.look().started;
        let mut next = seen.map_or_else(Instant::now, |seen| seen + refresh.pace.period);
        let mut complaint = String::new();
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep_until(next) => false,
                () = refresh.wanted.notified() => true,
            };
            if !refresh.start(is_asked) {
                continue;
            }
            let outcome = source.load().await.and_then(|text| self.replace(text));
            let pause = if outcome.is_ok() { refresh.pace.period } else { refresh.pace.retry };
            next = Instant::now() + pause;
            refresh.finish();
            let told = outcome.err().map(|error| error.to_string()).unwrap_or_default();
            // Said once, not every few seconds.
            if told != complaint {
                if told.is_empty() {
                    tracing::info!("the key set can be read again");
                } else {
                    tracing::warn!(error = %told, "kept the old keys");
                }
                complaint = told;
            }
        }
    }

    /// Puts a new set in force, if it is one.
    fn replace(&self, text: Option<String>) -> Result<(), Error> {
        let Some(text) = text else { return Ok(()) };
        let set = jwks::parse(&text, self.number() + 1)?;
        tracing::debug!(keys = set.keys.len(), "read the key set");
        self.set.store(Arc::new(set));
        Ok(())
    }
}

impl Refresh {
    /// Asks for a look, unless there was one just now, and waits for it a little.
    async fn soon(&self) {
        let mut finished = self.finished.subscribe();
        {
            let look = self.look();
            let is_coming = look.is_running || look.started.is_none();
            if !is_coming && look.is_recent(self.pace) {
                return;
            }
            if !is_coming {
                self.wanted.notify_one();
            }
        }
        // Whether it finished or not, the caller looks at the keys again.
        let _ = tokio::time::timeout(WAIT, finished.changed()).await;
    }

    /// Whether a look may start now; if so it has.
    fn start(&self, is_asked: bool) -> bool {
        let mut look = self.look();
        if is_asked && look.is_recent(self.pace) {
            return false;
        }
        *look = Look { started: Some(Instant::now()), is_running: true };
        true
    }

    fn finish(&self) {
        self.look().is_running = false;
        self.finished.send_modify(|looks| *looks += 1);
    }

    fn look(&self) -> MutexGuard<'_, Look> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look {
    fn is_recent(&self, pace: Pace) -> bool {
        self.started.is_some_and(|started| started.elapsed() < pace.gap)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const HS256: Algorithm = Algorithm::Known(jsonwebtoken::Algorithm::HS256);
    /// Only looks when asked, and as often as asked.
    const WHEN_ASKED: Pace = Pace {
        period: Duration::from_secs(3600),
        retry: Duration::from_secs(3600),
        gap: Duration::ZERO,
    };

    /// Answers each request with the answer of the moment and counts them.
    #[derive(Debug, Default)]
    struct Issuer {
        answer: Mutex<String>,
        asked: Mutex<u32>,
    }

    impl Issuer {
        async fn start(stage: &Stage) -> (Arc<Self>, Source) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/keys", listener.local_addr().unwrap());
            let issuer = Arc::new(Self::default());
            let server = Arc::clone(&issuer);
            stage.spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    *server.asked.lock().unwrap() += 1;
                    let _ = stream.read(&mut [0; 4096]).await;
                    let answer = server.answer.lock().unwrap().clone();
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            (issuer, Source::Address(Address::new(&url).unwrap()))
        }

        fn says(&self, status: &str, body: &str) {
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            *self.answer.lock().unwrap() = answer;
        }

        fn has(&self, kid: &str) {
            let set = format!(r#"{{"keys":[{{"kty":"oct","kid":"{kid}","k":"c2VjcmV0"}}]}}"#);
            self.says("200 OK", &set);
        }
    }

    #[tokio::test]
    async fn an_unknown_kid_brings_the_new_keys_and_the_old_ones_go() {
        let stage = Stage::new();
        let (issuer, source) = Issuer::start(&stage).await;
        issuer.has("a");
        let keys = Keyring::watched(None, KeySet::default(), source, WHEN_ASKED, &stage);
        assert!(keys.choose(HS256, Some("a")).await.is_some());
        issuer.has("b");
        assert!(keys.choose(HS256, Some("a")).await.is_some());
        let number = keys.number();
        assert!(keys.choose(HS256, Some("b")).await.is_some());
        assert!(keys.choose(HS256, Some("a")).await.is_none());
        assert!(number < keys.number());
    }

    #[tokio::test]
    async fn old_keys_stay_while_the_issuer_makes_no_sense() {
        let stage = Stage::new();
        let (issuer, source) = Issuer::start(&stage).await;
        issuer.has("a");
        let keys = Keyring::watched(None, KeySet::default(), source, WHEN_ASKED, &stage);
        assert!(keys.choose(HS256, Some("a")).await.is_some());
        let mut asked = 1;
        for (status, body) in [
            ("500 Internal Server Error", "{}".to_owned()),
            ("302 Found\r\nlocation: /elsewhere", String::new()),
            ("200 OK", "<html>".to_owned()),
            ("200 OK", "[]".to_owned()),
            ("200 OK", format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300_000))),
        ] {
            issuer.says(status, &body);
            assert!(keys.choose(HS256, Some("unknown")).await.is_none());
            asked += 1;
            assert_eq!(*issuer.asked.lock().unwrap(), asked, "{status}");
            assert!(keys.choose(HS256, Some("a")).await.is_some(), "{status}");
        }
    }

    #[tokio::test]
    async fn nobody_makes_the_relay_ask_more_often_than_the_gap() {
        let stage = Stage::new();
        let (issuer, source) = Issuer::start(&stage).await;
        issuer.has("a");
        let pace = Pace { gap: Duration::from_secs(3600), ..WHEN_ASKED };
        let keys = Keyring::watched(None, KeySet::default(), source, pace, &stage);
        let many = (0..100).map(|n| {
            let keys = Arc::clone(&keys);
            stage.spawn(async move { keys.choose(HS256, Some(&n.to_string())).await.is_none() })
        });
        for task in many.collect::<Vec<_>>() {
            assert!(task.await.unwrap());
        }
        assert!(keys.choose(HS256, Some("late")).await.is_none());
        assert_eq!(*issuer.asked.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn the_shared_secret_stands_in_for_an_unknown_kid_of_hs_only() {
        let set = jwks::parse(r#"{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}"#, 1).unwrap();
        let secret = Secret::new("shared".to_owned());
        let keys = Keyring::fixed(Some(&secret), set);
        let chosen = async |algorithm, kid| {
            let (key, _) = keys.choose(algorithm, kid).await?;
            Some(key.material.try_get_as_bytes().unwrap().to_vec())
        };
        assert_eq!(chosen(HS256, Some("a")).await.as_deref(), Some(&b"secret"[..]));
        assert_eq!(chosen(HS256, Some("b")).await.as_deref(), Some(&b"shared"[..]));
        assert_eq!(chosen(HS256, None).await.as_deref(), Some(&b"shared"[..]));
        assert_eq!(chosen(Algorithm::Es512, Some("a")).await, None);
        assert_eq!(chosen(Algorithm::Es512, None).await, None);
    }
}
