//! The configuration of a lab: `config.d` as the administrator edits it and as machines receive it.
//!
//! Each TOML file has one module and one type. Unknown keys are errors that name the file, the line
//! and the nearest key that exists.

pub mod boot;
pub mod bundle;
pub mod chain;
pub mod drives;
pub mod health;
pub mod machines;
pub mod memory;
pub mod mounts;
pub mod network;
pub mod sources;
pub mod system;
pub mod window;

use std::{borrow::Cow, fmt, str};

use serde::de::DeserializeOwned;

pub use boot::Boot;
pub use bundle::Bundle;
pub use chain::{Introduction, Trust};
pub use drives::Drives;
pub use health::Health;
pub use machines::Machines;
pub use mounts::Mounts;
pub use network::Network;
pub use sources::Sources;

/// A mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The file, relative to `config.d`.
    pub file: String,
    /// Counted from 1; 0 where the mistake has no line.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (did you mean `{suggestion}`?)"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// A mistake that has no line of its own.
    pub fn new(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, message: message.into(), suggestion: None }
    }

    /// With the line on which `text` first has `value`, if it has it outside of comments.
    pub fn in_line_of(mut self, text: &str, value: &str) -> Self {
        let is_comment = |line: &str| line.trim_start().starts_with('#');
        let is_it = |line: &str| !value.is_empty() && line.contains(value) && !is_comment(line);
        self.line = text.lines().position(is_it).map_or(self.line, |before| before + 1);
        self
    }
}

/// The bytes of a TOML file as text.
pub fn toml_text<'b>(file: &str, bytes: &'b [u8]) -> Result<Cow<'b, str>, Error> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(e) => {
            let before = bytes.get(..e.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|b| **b == b'\n').count();
            let message = "this is not text in UTF-8".to_owned();
            Err(Error { file: file.to_owned(), line, message, suggestion: None })
        }
    }
}

/// Reads one TOML file.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|e| {
        let line = e
            .span()
            .map_or(0, |span| 1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count());
        let message = e.message().trim().replace('\n', "; ");
        Error { file: file.to_owned(), line, suggestion: nearest(&message), message }
    })
}

/// serde says ``unknown field `servrs`, expected one of `servers`, `keys` ``: the nearest of those.
fn nearest(message: &str) -> Option<String> {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (found, known) = quoted.split_first()?;
    if !message.starts_with("unknown ") {
        return None;
    }
    near(found, known.iter().copied()).map(str::to_owned)
}

/// The one of the `known` names that was probably meant by `name`.
pub fn near<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let known = known.into_iter().map(|known| (strsim::damerau_levenshtein(name, known), known));
    known.filter(|(distance, known)| *distance <= 1 + known.len() / 3).min().map(|(_, known)| known)
}
