//! `runlevels`: `SERVICE add|del RUNLEVEL`, a service a line.

use super::text::{self, Wrong};
use crate::config::{Error, near};

/// A service that is to start in a runlevel, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The line in the file, from 1.
    pub line: usize,
    /// Its name: of a script in `/etc/init.d`, or of a systemd unit.
    pub service: String,
    /// Whether it starts.
    pub add: bool,
    /// When: with OpenRC a runlevel; with systemd a target, or `default` for what the unit's own
    /// `[Install]` says.
    pub runlevel: String,
}

/// Reads the file.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(file: &str, text: &str) -> Result<Vec<Rule>, Error> {
    text::parse(file, text, rule)
}

pub(super) fn rule(line: usize, text: &str) -> Result<Rule, Wrong> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [service, verb, runlevel] = words.as_slice() else {
        return Err(Wrong::new("a line is SERVICE add RUNLEVEL, or SERVICE del RUNLEVEL"));
    };
    // It becomes the name of a link.
    if let Some(bad) =
        [service, runlevel].into_iter().find(|w| w.contains('/') || matches!(**w, "." | ".."))
    {
        return Err(Wrong::new(format!(
            "{bad:?} is no name: it has no slash, and is not only dots"
        )));
    }
    let add = match *verb {
        "add" => true,
        "del" => false,
        other => {
            // Words of four letters and fewer: two wrong ones are still a typo.
            let near = near(other, ["add", "del"]).map(str::to_owned);
            let message = format!("{other:?} is neither add nor del");
            return Err(Wrong { message, near });
        }
    };
    Ok(Rule { line, service: (*service).to_owned(), add, runlevel: (*runlevel).to_owned() })
}
