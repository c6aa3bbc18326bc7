//! What a build remembers on disk after every step, so that one that was killed goes on where it was.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    hook::Hook,
    sources::{Sha512, Stage3Path},
};

/// Of the file. A state of another format is not understood.
const FORMAT: u32 = 1;

/// How far a build has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: u32,
    /// When the build began, in seconds since 1970.
    pub started: u64,
    /// The SHA-256 of the configuration that it began with.
    #[serde(default)]
    pub configuration: String,
    /// The step that began last, and has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// Whether the build came to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// The stage3 that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage3: Option<Stage3>,
    /// The portage snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Download>,
    /// The commit of the ebuild repository that catalyst builds from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub treeish: Option<String>,
    /// What catalyst made, by its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<Download>,
    /// What is done, in the order in which it was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<Done>,
}

/// A stage3, as the mirror's signed pointer names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage3 {
    /// Below the mirror's folder of builds.
    pub path: Stage3Path,
    /// Bytes.
    pub size: u64,
    /// Where it is, and what is in it, once it was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Download>,
}

/// A file that was fetched and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Its name among the downloads, or its path where it is elsewhere.
    pub file: String,
    /// What was verified. Whoever unpacks it later compares again.
    pub sha512: Sha512,
}

/// A step that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// See [`super::plan::Step::id`].
    pub step: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: FORMAT,
            started: 0,
            configuration: String::new(),
            running: None,
            finished: false,
            stage3: None,
            snapshot: None,
            treeish: None,
            product: None,
            done: Vec::new(),
        }
    }
}

/// Why a state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error("{doing} {path}, in which the build remembers how far it is")]
    Io {
        /// A gerund.
        doing: &'static str,
        /// Of the state.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what [`State::save`] wrote.
    #[error("{path} is no state of a build: {message}; --force-new starts anew without it")]
    Broken {
        /// Of the state.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

impl State {
    /// A build that begins now.
    pub fn new(started: u64, configuration: String) -> Self {
        Self { started, configuration, ..Self::default() }
    }

    /// Reads the state of an earlier run; none if there is none.
    ///
    /// # Errors
    /// If the file cannot be read, or is of another version of `gse`.
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        let broken = |message: String| Error::Broken { path: path.to_owned(), message };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Io { doing: "reading", path: path.to_owned(), source });
            }
        };
        let state: Self = toml::from_str(&text).map_err(|e| broken(e.message().to_owned()))?;
        if state.format != FORMAT {
            return Err(broken(format!("its format is {}, and not {FORMAT}", state.format)));
        }
        Ok(Some(state))
    }

    /// Writes it in one piece: a reader sees the old state or the new one.
    ///
    /// # Errors
    /// Those of writing.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Io { doing: "writing", path: path.to_owned(), source };
        let text = toml::to_string(self).map_err(|e| failed(io::Error::other(e)))?;
        replace(path, text.as_bytes()).map_err(failed)
    }

    /// Whether the step is done.
    pub fn is_done(&self, step: &str) -> bool {
        self.done.iter().any(|done| done.step == step)
    }

    /// The step begins: it no longer counts as done.
    pub fn begin(&mut self, step: &str) {
        self.done.retain(|done| done.step != step);
        self.running = Some(step.to_owned());
    }

    /// The step is done.
    pub fn record(&mut self, step: &str, at: u64) {
        self.begin(step);
        self.running = None;
        self.done.push(Done { step: step.to_owned(), at });
    }

    /// Forgets what was done from this hook point on: what it made is about to be made anew.
    pub fn forget_from(&mut self, hook: Hook) {
        self.done.retain(|done| is_before(&done.step, hook));
    }
}

/// Whether the step comes before the hook point. A step that no hook point is known for does not.
fn is_before(step: &str, hook: Hook) -> bool {
    let place = step.split_once(':').map_or(step, |(place, _)| place);
    let name = place.trim_start_matches(['-', '+']);
    name.parse::<Hook>().is_ok_and(|of| match place.chars().next() {
        Some('-') => of <= hook,
        Some('+') => of < hook && hook.part() != Some(of),
        _ => of < hook,
    })
}

/// Writes a file beside, flushes it, and puts it into its place. Its name until then is always the same, so that what a killed
/// build leaves is gone when the step is done again.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.gse-new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.toml");
        assert_eq!(State::load(&path).unwrap(), None);
        let mut state = State::new(1_700_000_000, "abc".to_owned());
        state.begin("gseed");
        state.record("gseed", 1_700_000_001);
        state.begin("gprec");
        state.snapshot =
            Some(Download { file: "gentoo.tar.xz".to_owned(), sha512: Sha512::of(b"x") });
        let path3 = "20260811T083102Z/stage3-amd64-openrc-20260811T083102Z.tar.xz".parse().unwrap();
        state.stage3 = Some(Stage3 { path: path3, size: 7, verified: state.snapshot.clone() });
        state.save(&path).unwrap();
        assert_eq!(State::load(&path).unwrap(), Some(state));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_step_that_begins_again_is_no_longer_done() {
        let mut state = State::default();
        state.record("gupdate", 1);
        state.record("gupdate", 2);
        assert_eq!(state.done.len(), 1);
        state.begin("gupdate");
        assert!(!state.is_done("gupdate"));
        assert_eq!(state.running.as_deref(), Some("gupdate"));
    }

    #[test]
    fn what_comes_after_a_hook_point_can_be_forgotten() {
        let mut state = State::default();
        let before = ["gfund", "-gparta:a", "gseed", "+gseed:a", "gprec", "-gextr:a"];
        let after = ["gextr", "+gextr:a", "+gparta:a", "gpartb", "-gpartc:a", "gupdate", "nothing"];
        for step in before.iter().chain(&after) {
            state.record(step, 0);
        }
        state.forget_from(Hook::Extract);
        let left: Vec<_> = state.done.iter().map(|done| done.step.as_str()).collect();
        assert_eq!(left, before);
    }

    #[test]
    fn something_else_is_no_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.toml");
        for text in
            ["format = 2\nstarted = 0\n", "format = 1\n", "\0", "format = 1\nstarted = 0\nx = 1\n"]
        {
            fs::write(&path, text).unwrap();
            let error = State::load(&path).unwrap_err().to_string();
            assert!(error.contains("--force-new"), "{error}");
        }
    }
}
