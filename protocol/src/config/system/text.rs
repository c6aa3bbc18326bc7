//! Files of lines: what counts in them, and mistakes with their line.

use crate::config::{Error, mounts::is_below};

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    /// What was probably meant.
    pub(super) near: Option<String>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), near: None }
    }

    pub(super) fn in_line(self, file: &str, line: usize) -> Error {
        let Self { message, near } = self;
        Error { file: file.to_owned(), line, message, suggestion: near }
    }
}

/// The lines that are neither empty nor comments, without blanks around them, and their numbers from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(text.lines().map(str::trim));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The mistakes of all lines.
pub(super) fn check(
    file: &str,
    text: &str,
    line: &dyn Fn(&str) -> Result<(), Wrong>,
) -> Vec<Error> {
    let wrong = |(number, text)| Some(line(text).err()?.in_line(file, number));
    lines(text).filter_map(wrong).collect()
}

/// As [`check`], for a file with one line that counts.
pub(super) fn check_one(
    file: &str,
    text: &str,
    line: &dyn Fn(&str) -> Result<(), Wrong>,
) -> Vec<Error> {
    let mut found = check(file, text, line);
    if let Some((number, _)) = lines(text).nth(1) {
        found.push(
            Wrong::new("only the first line counts: take the others out").in_line(file, number),
        );
    }
    found
}

/// Reads all lines, to the first that is wrong.
pub(super) fn parse<T>(
    file: &str,
    text: &str,
    line: impl Fn(usize, &str) -> Result<T, Wrong>,
) -> Result<Vec<T>, Error> {
    lines(text).map(|(n, text)| line(n, text).map_err(|wrong| wrong.in_line(file, n))).collect()
}

/// An absolute path without `.`, `..` or control characters, which is not the root; without its first slash.
pub(super) fn absolute(path: &str) -> Result<String, Wrong> {
    match path.strip_prefix('/').filter(|below| is_below(below)) {
        Some(below) => Ok(below.to_owned()),
        None => Err(Wrong::new(format!("{path:?} is no absolute path like /var/cache"))),
    }
}
