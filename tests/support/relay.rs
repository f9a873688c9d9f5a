//! The built relay, as a process.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{Database, PATIENCE, free_port, unique, until};

/// The secret every test relay verifies tokens with.
pub const SECRET: &str = "a-secret-for-tests-of-at-least-thirty-two-bytes";

/// The built program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_relay");

/// A running relay. Killed when dropped; its log is printed when the test fails.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    admin_port: u16,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    directory: PathBuf,
    program: Vec<&'static str>,
    arguments: Vec<&'static str>,
    child: Option<Child>,
}

impl Relay {
    /// Starts a relay on `database`, as the role `relay`, and waits until it streams.
    pub async fn start(database: &Database) -> Self {
        Self::start_with(database, &[]).await
    }

    /// The same with `RELAY_…` variables on top, such as `("RELAY_REALTIME__DELETES", "strict")`.
    pub async fn start_with(database: &Database, environment: &[(&str, &str)]) -> Self {
        let mut relay = Self::prepare(database, environment);
        relay.launch();
        relay.ready().await;
        relay
    }

    /// A relay that is configured but not running.
    pub fn prepare(database: &Database, environment: &[(&str, &str)]) -> Self {
        let (port, admin_port) = (free_port(), free_port());
        let log = std::env::temp_dir().join(unique(&format!("relay-log-{}", std::process::id())));
        let directory = log.with_extension("d");
        let mut variables = BTreeMap::from([
            ("RELAY_HTTP__LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("RELAY_HTTP__ADMIN_LISTEN".to_owned(), format!("127.0.0.1:{admin_port}")),
            ("RELAY_POSTGRES__URL".to_owned(), database.url_as("relay")),
            ("RELAY_POSTGRES__SLOT".to_owned(), database.slot()),
            ("RELAY_LOG__DIR".to_owned(), directory.display().to_string()),
            ("RELAY_AUTH__JWT_SECRET".to_owned(), SECRET.to_owned()),
            ("RUST_LOG".to_owned(), "relay=debug".to_owned()),
        ]);
        variables.extend(environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let (program, arguments) = (vec![PROGRAM], vec!["run"]);
        let environment = variables;
        Self { port, admin_port, environment, log, directory, program, arguments, child: None }
    }

    /// Without a log on disk.
    pub fn ephemeral(mut self) -> Self {
        self.arguments.push("--ephemeral");
        self
    }

    /// Living on when a file may not grow any more.
    pub fn shielded(mut self) -> Self {
        self.program = vec!["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM];
        self
    }

    /// Started by somebody whose files everybody may read and write, if nothing else is said.
    pub fn careless(mut self) -> Self {
        self.program = vec!["sh", "-c", "umask 0; exec \"$0\" \"$@\"", PROGRAM];
        self
    }

    /// The variables that it is started with.
    pub const fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Where its change log is.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Waits for it to exit by itself.
    pub async fn exited(&mut self) -> Option<i32> {
        let child = self.child.as_mut().unwrap();
        let status =
            until("the relay to exit", || std::future::ready(child.try_wait().unwrap())).await;
        self.child = None;
        status.code()
    }

    /// Starts the process without waiting for it.
    pub fn launch(&mut self) {
        let open =
            || std::fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let child = Command::new(self.program[0])
            .args(&self.program[1..])
            .args(&self.arguments)
            .envs(&self.environment)
            .env_remove("DATABASE_URL")
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until `/readyz` says it streams.
    pub async fn ready(&mut self) {
        let exited = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
        assert!(exited.is_none(), "the relay exited: {exited:?}\n{}", self.log_text());
        let port = self.port;
        until("the relay to be ready", || async move {
            get(port, "/readyz").filter(|(status, _)| *status == 200)
        })
        .await;
    }

    /// Kills it as the system would (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop (SIGTERM) and waits for its exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.exited().await
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Starts it again on the same port and waits until it streams.
    pub async fn restart(&mut self) {
        self.kill();
        self.launch();
        self.ready().await;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its port for probes and metrics on 127.0.0.1.
    pub const fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// Its address for SDKs: they append `/websocket`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Everything it has logged.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Status and body of a GET.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.port, path).expect("the relay does not answer")
    }

    /// Sends a request as it is written here, and reads the answer.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        request(self.port, method, path, headers, body)
    }

    /// Its metrics, as text.
    pub fn metrics(&self) -> String {
        let (status, text) = get(self.admin_port, "/metrics").expect("no metrics are served");
        assert_eq!(status, 200, "{text}");
        text
    }

    /// The value of a metric, its labels added up; or of those of its series that begin with a `name` that has a label.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_whole = name.contains('{') || rest.starts_with(['{', ' ']);
            is_whole.then(|| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        });
        values.sum()
    }

    /// How often it has refused something with this code.
    pub fn refused(&self, code: &str) -> f64 {
        self.metric(&format!("relay_refused_total{{reason=\"{code}\"}}"))
    }

    /// A connection to it from another address of this machine, such as `127.0.0.2`.
    pub fn dial_from(&self, address: &str) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(address.parse().unwrap(), 0).into()).unwrap();
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], self.port)).into()).unwrap();
        TcpStream::from(socket)
    }
}

/// What a request was answered with.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of the relay ----\n{}", self.log_text());
        }
        let _ = std::fs::remove_file(&self.log);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Sends a request to a port as it is written here, and reads the answer.
pub fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap()[9..12].parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}

/// A GET without a library: status and body, `None` when nobody answers.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.get(9..12)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Some((status, body.to_owned()))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token for `role` with an hour to live and further claims on top.
pub fn token(role: &str, further: &Value) -> String {
    let mut claims = json!({ "role": role, "exp": now() + 3600 });
    let map = claims.as_object_mut().unwrap();
    map.extend(further.as_object().cloned().unwrap_or_default());
    sign(&claims)
}

/// A token with exactly these claims, signed with [`SECRET`].
pub fn sign(claims: &Value) -> String {
    sign_with(SECRET, claims)
}

/// The same, signed with a secret of choice.
pub fn sign_with(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
}

/// A token for nobody in particular, as the public key of a page is.
pub fn anon() -> String {
    token("anon", &json!({}))
}

/// A token for the user `sub`.
pub fn token_of(sub: &str) -> String {
    token("authenticated", &json!({ "sub": sub }))
}

/// How long to watch for something that must not come, after something that must has come.
pub const QUIET: Duration = Duration::from_millis(300);
