//! The programs that make and mend filesystems.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use crate::log::Log;

/// Where programs are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools(Vec<PathBuf>);

/// What a program answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The whole command, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on standard error, or where that is empty, on standard output.
    pub said: String,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there.
    #[error(
        "{program} is missing from the controller's image: `gse --build-controller` includes it when \
         controller/drives.toml names its filesystem, so build the image again"
    )]
    Missing {
        /// The program.
        program: &'static str,
    },
    /// It did not start.
    #[error("starting `{command}`: {source} (is its program interpreter in the image?)")]
    Start {
        /// The whole command.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It failed.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// The whole command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
}

impl Tools {
    /// Looks in the folders of a `PATH` such as `/usr/sbin:/usr/bin`.
    pub fn from_path(path: &OsStr) -> Self {
        Self(std::env::split_paths(path).collect())
    }

    /// Where a program is.
    ///
    /// # Errors
    /// That it is nowhere.
    pub fn find(&self, program: &'static str) -> Result<PathBuf, ToolError> {
        let found = self.0.iter().map(|folder| folder.join(program)).find(|file| file.is_file());
        found.ok_or(ToolError::Missing { program })
    }

    /// Runs a program to its end, and returns what it answered, good or bad.
    ///
    /// # Errors
    /// A program that is missing or cannot be started.
    pub fn ask(
        &self,
        program: &'static str,
        arguments: &[impl AsRef<OsStr>],
        log: &Log,
    ) -> Result<Answer, ToolError> {
        let words = arguments.iter().map(|word| word.as_ref().to_string_lossy());
        let command = [program.into()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
        log.debug(&command);
        let output = Command::new(self.find(program)?)
            .args(arguments)
            // Messages in one language, and the tools' own helpers from the same folders.
            .env_clear()
            .env("LC_ALL", "C")
            .envs(std::env::join_paths(&self.0).map(|path| ("PATH", path)))
            .current_dir(Path::new("/"))
            .stdin(Stdio::null())
            .output();
        let output =
            output.map_err(|source| ToolError::Start { command: command.clone(), source })?;
        let said =
            if output.stderr.trim_ascii().is_empty() { output.stdout } else { output.stderr };
        let said = String::from_utf8_lossy(said.trim_ascii()).into_owned();
        Ok(Answer { command, status: output.status, said })
    }

    /// Runs a program that has to succeed.
    ///
    /// # Errors
    /// A program that is missing, cannot be started, or fails.
    pub fn run(
        &self,
        program: &'static str,
        arguments: &[impl AsRef<OsStr>],
        log: &Log,
    ) -> Result<(), ToolError> {
        let Answer { command, status, said } = self.ask(program, arguments, log)?;
        if status.success() { Ok(()) } else { Err(ToolError::Failed { command, status, said }) }
    }
}
