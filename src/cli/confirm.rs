//! The question that a person answers at the terminal before something is lost for good.

use std::io::IsTerminal as _;

use super::print;
use crate::error::{Error, ErrorKind};

/// Prints `context` and `question` and reads the answer; anything but `y`, `Y` or `yes` is a no. `action` is what `--yes`
/// does without asking, such as `drop the slot`.
///
/// # Errors
/// `Misconfigured`: standard input is no terminal, or cannot be read.
pub(crate) fn is_confirmed(
    action: &str,
    context: &[String],
    question: &str,
) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        let context = format!("nobody can be asked on this terminal; say --yes to {action}");
        return Err(Error::new(ErrorKind::Misconfigured, context));
    }
    context.iter().try_for_each(|line| print::line(line))?;
    print::line(question)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| {
        Error::new(ErrorKind::Misconfigured, "could not read the answer").because(error)
    })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
