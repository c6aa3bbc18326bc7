//! What a build says: to the person as much as was asked for, and to its logs everything.

use std::{
    fmt,
    fs::{self, File},
    io::{self, IsTerminal as _, Write as _, stderr, stdout},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::progress::Progress;

/// How much the person sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What commands print, as they print it.
    #[default]
    Normal,
    /// Every command too, before what it prints.
    Verbose,
    /// One plain line a step.
    Quiet,
}

/// Where text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The log of a whole build, in which each hook point also has a log of its own.
///
/// Several processes write the same files: each line is appended by one call.
#[derive(Debug)]
pub struct Log {
    mode: Mode,
    folder: PathBuf,
    whole: File,
    own: Option<File>,
}

/// The log of everything, in its folder.
pub const WHOLE: &str = "build.log";

/// A log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("opening the log {path}")]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Log {
    /// Opens the log of a build, and makes its folder where it is missing.
    ///
    /// # Errors
    /// Those of opening.
    pub fn open(folder: &Path, mode: Mode) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|e| Error { path: folder.to_owned(), source: e })?;
        let whole = open(&folder.join(WHOLE))?;
        Ok(Self { mode, folder: folder.to_owned(), whole, own: None })
    }

    /// The same log, with a file of its own for one hook point.
    ///
    /// # Errors
    /// Those of opening.
    pub fn of(&self, name: &str) -> Result<Self, Error> {
        let mut log = Self::open(&self.folder, self.mode)?;
        log.own = Some(open(&self.file_of(name))?);
        Ok(log)
    }

    /// Where the log of a hook point is.
    pub fn file_of(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Where the progress of long work goes.
    pub fn progress(&self) -> Progress {
        match self.mode {
            Mode::Quiet => Progress::silent(),
            Mode::Normal | Mode::Verbose => Progress::stderr(),
        }
    }

    /// A step begins: everybody sees it.
    pub fn step(&self, text: impl fmt::Display) {
        self.write(format!(">>> {text}\n").as_bytes());
        // Among what commands print, it stands out.
        let bold = self.mode != Mode::Quiet
            && stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none();
        let (on, off) = if bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        show(Stream::Out, format!("{on}{text}{off}\n").as_bytes());
    }

    /// A detail, which `--quiet` leaves out.
    pub fn note(&self, text: impl fmt::Display) {
        let line = format!("{text}\n");
        self.write(line.as_bytes());
        if self.mode != Mode::Quiet {
            show(Stream::Out, line.as_bytes());
        }
    }

    /// For the logs alone: the person is told otherwise.
    pub fn record(&self, text: impl fmt::Display) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// Something that a person should know; everybody sees it.
    pub fn warn(&self, text: impl fmt::Display) {
        let line = format!("gse: {text}\n");
        self.write(line.as_bytes());
        show(Stream::Err, line.as_bytes());
    }

    /// A command that is about to run, as `set -x` shows it.
    pub fn command(&self, command: impl fmt::Display) {
        let line = format!("+ {command}\n");
        self.write(line.as_bytes());
        if self.mode == Mode::Verbose {
            show(Stream::Err, line.as_bytes());
        }
    }

    /// What a command printed.
    pub fn output(&self, stream: Stream, bytes: &[u8]) {
        self.write(bytes);
        if self.mode != Mode::Quiet {
            show(stream, bytes);
        }
    }

    /// A log that cannot be written is no reason to end a build that may have run for hours: the person is told by what
    /// comes next, which cannot write either.
    fn write(&self, bytes: &[u8]) {
        for mut file in [Some(&self.whole), self.own.as_ref()].into_iter().flatten() {
            let _ = file.write_all(bytes);
        }
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let file = File::options().create(true).append(true).open(path);
    file.map_err(|source| Error { path: path.to_owned(), source })
}

/// A terminal that went away ends no build.
fn show(stream: Stream, bytes: &[u8]) {
    let _ = match stream {
        Stream::Out => stdout().write_all(bytes).and_then(|()| stdout().flush()),
        Stream::Err => stderr().write_all(bytes),
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_logs_have_everything_in_each_mode() {
        for mode in [Mode::Normal, Mode::Verbose, Mode::Quiet] {
            let folder = tempfile::tempdir().unwrap();
            let log = Log::open(&folder.path().join("log"), mode).unwrap();
            log.step("one");
            let own = log.of("gprec").unwrap();
            own.note("two");
            own.command("true");
            own.output(Stream::Out, b"three\n");
            own.warn("four");
            let read =
                |name: &str| fs::read_to_string(folder.path().join("log").join(name)).unwrap();
            let of_hook = "two\n+ true\nthree\ngse: four\n";
            assert_eq!(read("gprec.log"), of_hook);
            assert_eq!(read(WHOLE), format!(">>> one\n{of_hook}"));
        }
    }
}
