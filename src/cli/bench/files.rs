//! The limit of open files, which many clients in one process soon reach.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::error::{Error, ErrorKind};

/// Files open besides the clients' sockets.
const OTHERS: u64 = 500;

/// Set in the process that runs under a raised limit.
const RAISED: &str = "BENCH_OPEN_FILES_RAISED";

/// Makes sure that `clients` sockets may be open: if not, this very command is run again under a higher limit.
///
/// # Errors
/// `Misconfigured`, saying how to raise the limit.
pub(super) fn ensure(clients: usize) -> Result<(), Error> {
    let needed = u64::try_from(clients).unwrap_or(u64::MAX).saturating_add(OTHERS);
    // Where there is no /proc the limit is found out by reaching it.
    let Some(limit) = std::fs::read_to_string("/proc/self/limits").ok().and_then(|t| soft(&t))
    else {
        return Ok(());
    };
    if limit >= needed {
        return Ok(());
    }
    let refused = || {
        let context = format!(
            "{clients} clients need {needed} open files and {limit} are allowed; raise the limit \
             (as root: ulimit -n {needed}; for good: nofile in /etc/security/limits.conf), or ask for fewer clients"
        );
        Error::new(ErrorKind::Misconfigured, context)
    };
    if std::env::var_os(RAISED).is_some() {
        return Err(refused());
    }
    let program = std::env::current_exe().map_err(|error| refused().because(error))?;
    let script = "limit=$1; shift; \
                  ulimit -n \"$limit\" 2>/dev/null || ulimit -n \"$(ulimit -Hn)\"; exec \"$0\" \"$@\"";
    let error = Command::new("sh")
        .args(["-c", script])
        .arg(program)
        .arg(needed.to_string())
        .args(std::env::args_os().skip(1))
        .env(RAISED, "1")
        .exec();
    Err(refused().because(error))
}

/// The soft limit, from the text of `/proc/self/limits`.
fn soft(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let word = line.split_whitespace().next()?;
    if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_limit() {
        let text = "Limit   Soft   Hard\nMax open files            1024                 524288               files\n";
        assert_eq!(soft(text), Some(1024));
        assert_eq!(soft("Max open files unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(soft(""), None);
    }
}
