//! `owners`: `PATH OWNER[:GROUP] [MODE]`, for files that are not root's, or have permissions of their own.

use super::text::{self, Wrong, absolute};
use crate::config::Error;

/// Whose a file is: by number, or by the name that the image's `/etc/passwd` and `/etc/group` have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The group; without it that of the user.
    pub group: Option<String>,
}

impl Default for Owner {
    fn default() -> Self {
        Self { user: "0".to_owned(), group: Some("0".to_owned()) }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Relative to the system's root.
    pub path: String,
    /// Whose it is.
    pub owner: Owner,
    /// Permissions; without them those of the file in `config.d`.
    pub mode: Option<u32>,
}

/// Reads the file.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(file: &str, text: &str) -> Result<Vec<Rule>, Error> {
    text::parse(file, text, |_, line| rule(line))
}

pub(super) fn rule(line: &str) -> Result<Rule, Wrong> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [path, owner, mode @ ..] = words.as_slice() else {
        return Err(Wrong::new(
            "a line is PATH OWNER:GROUP MODE, such as /etc/secret root:wheel 0640",
        ));
    };
    let mode = match mode {
        [] => None,
        [mode] => Some(octal(mode)?),
        [_, other, ..] => return Err(Wrong::new(format!("{other:?} is too much after the mode"))),
    };
    let (user, group) = match owner.split_once(':') {
        Some((user, group)) => (user, Some(group.to_owned())),
        None => (*owner, None),
    };
    if user.is_empty() || group.as_deref() == Some("") {
        return Err(Wrong::new(format!("{owner:?} is no owner like root:wheel or 1000:100")));
    }
    let owner = Owner { user: user.to_owned(), group };
    Ok(Rule { path: absolute(path)?, owner, mode })
}

fn octal(text: &str) -> Result<u32, Wrong> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Wrong::new(format!("{text:?} is no mode like 0644")))
}
