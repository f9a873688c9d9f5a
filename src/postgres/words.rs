//! The syntax of connection strings: a URI or `key=value` words → pairs.
//!
//! Follows libpq. It never repeats a value in a complaint, because any of them may be a piece of a password whose
//! special characters were not escaped. What the keys mean is `target`'s.

/// Splits a connection string into its pairs, in order; a later pair overrides an earlier one.
pub(super) fn split(text: &str) -> Result<Vec<(String, String)>, String> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    match rest {
        Some(rest) => uri(rest),
        None => words(text),
    }
}

/// Whether user and password of a URI seem to contain a raw `/` or `?`, so that everything after it was misread.
pub(super) fn looks_unescaped(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    !authority.contains('@') && tail.contains('@')
}

fn uri(rest: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = before_query.split_once('/').unwrap_or((before_query, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    };
    if let Some(login) = login {
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        if !user.is_empty() {
            pairs.push(("user".into(), decoded(user, "the user")?));
        }
        if let Some(password) = password {
            pairs.push(("password".into(), decoded(password, "the password")?));
        }
    }
    if !hosts.is_empty() {
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',') {
            let (name, port) = name_and_port(host)?;
            names.push(decoded(name, "a host")?);
            ports.push(port);
        }
        pairs.push(("host".into(), names.join(",")));
        if ports.iter().any(|port| !port.is_empty()) {
            pairs.push(("port".into(), ports.join(",")));
        }
    }
    if !database.is_empty() {
        pairs.push(("dbname".into(), decoded(database, "the database name")?));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("a parameter after ? has no =")?;
        let (key, value) = (decoded(key, "a key")?, decoded(value, "a parameter's value")?);
        match (key.as_str(), value.as_str()) {
            // What libpq makes of the JDBC spelling.
            ("ssl", "true") => pairs.push(("sslmode".into(), "require".into())),
            _ => pairs.push((key, value)),
        }
    }
    Ok(pairs)
}

fn name_and_port(host: &str) -> Result<(&str, &str), String> {
    if let Some(bracketed) = host.strip_prefix('[') {
        let (name, after) = bracketed.split_once(']').ok_or("a [ in the host has no ]")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((name, port)),
            None if after.is_empty() => Ok((name, "")),
            None => Err("something other than a port follows the ] of a host".into()),
        };
    }
    Ok(host.split_once(':').unwrap_or((host, "")))
}

fn decoded(text: &str, what: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit(rest.next()), digit(rest.next()));
            let value = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            match value {
                Some(0) | None => {
                    return Err(format!(
                        "{what} contains a % that is not followed by two hexadecimal digits (write % as %25)"
                    ));
                }
                Some(value) => bytes.push(value),
            }
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8"))
}

fn words(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or("a word has no = (quote values that contain blanks: password='a b')")?;
        let key = key.trim_end();
        if key.contains(char::is_whitespace) {
            return Err("a word has no = (quote values that contain blanks: password='a b')".into());
        }
        let (value, after) = value(after.trim_start())?;
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// One value, quoted or not, with backslashes undone; and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let body = if quoted { text.get(1..).unwrap_or_default() } else { text };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, body.get(at + 1..).unwrap_or_default())),
            _ if !quoted && char.is_whitespace() => {
                return Ok((value, body.get(at..).unwrap_or_default()));
            }
            _ => value.push(char),
        }
    }
    if quoted { Err("a quoted value is not closed".into()) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let pairs = split(text).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, expected, "{text}");
    }

    #[test]
    fn uris() {
        check("postgres://", &[]);
        check(
            "postgresql://u:p%40%3A@h:5433/d%20b?sslmode=require",
            &[
                ("user", "u"),
                ("password", "p@:"),
                ("host", "h"),
                ("port", "5433"),
                ("dbname", "d b"),
                ("sslmode", "require"),
            ],
        );
        check(
            "postgres://u@a:1,[::1]:2,b/db",
            &[("user", "u"), ("host", "a,::1,b"), ("port", "1,2,"), ("dbname", "db")],
        );
        check("postgres://u@%2Ftmp/db", &[("user", "u"), ("host", "/tmp"), ("dbname", "db")]);
        check(
            "postgres:///db?host=/tmp&ssl=true",
            &[("dbname", "db"), ("host", "/tmp"), ("sslmode", "require")],
        );
        check("postgres://u:a@b@h", &[("user", "u"), ("password", "a@b"), ("host", "h")]);
    }

    #[test]
    fn key_value_words() {
        check(
            r"host = h  password='a b\'c' user=a\ b options=''",
            &[("host", "h"), ("password", "a b'c"), ("user", "a b"), ("options", "")],
        );
        check("", &[]);
    }

    #[test]
    fn complaints_do_not_repeat_what_was_written() {
        for text in [
            "postgres://u:hunter%2@h/db",
            "postgres://u:p@h/db?hunter2",
            "postgres://u:p@[hunter2/db",
            "user=u password=x hunter2",
            "user=u password='hunter2",
            "user=u password=x hunter2 x=y",
        ] {
            let complaint = split(text).unwrap_err();
            assert!(!complaint.contains("hunter"), "{complaint}");
        }
    }
}
