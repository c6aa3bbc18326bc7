//! Why the virtual lab stops.

use std::{fmt, io, path::PathBuf, time::Duration};

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the virtual lab stops.
#[derive(thiserror::Error)]
pub enum Error {
    /// The host refused something.
    #[error("{doing}")]
    Io {
        /// What was being done, to what.
        doing: String,
        /// What the host said.
        source: io::Error,
    },
    /// A program that should be there is not.
    #[error("starting {program}: {source}; `make deps` installs what the lab needs")]
    Start {
        /// The program.
        program: String,
        /// What the host said.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{command} failed ({status}){output}")]
    Command {
        /// The whole command.
        command: String,
        /// Its exit status.
        status: String,
        /// What it said, on lines of their own.
        output: String,
    },
    /// A machine did not say or do something in time.
    #[error("waited {} s for {what}, in vain; the console's last lines:\n{tail}", .after.as_secs_f32())]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// The console's last lines.
        tail: String,
    },
    /// A machine ended while something was waited for.
    #[error("the machine ended while {what} was waited for; the console's last lines:\n{tail}")]
    Ended {
        /// What was waited for.
        what: String,
        /// The console's last lines.
        tail: String,
    },
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {message}")]
    Qmp {
        /// The command.
        command: String,
        /// QEMU's own words.
        message: String,
    },
    /// A machine that cannot be.
    #[error("{0}")]
    Impossible(String),
    /// A file that the lab needs is not there.
    #[error("{} is missing: {advice}", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// How to get it.
        advice: String,
    },
}

/// As for a person: a test that unwraps shows a console's lines as lines.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        std::error::Error::source(self).map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

/// Adds what was being done to an [`io::Error`].
pub(crate) trait Doing<T> {
    /// `doing` says what was being done, to what: "opening /dev/sda2".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::Io { doing: doing(), source: e.into() })
    }
}
