//! Commands that are timed.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, Result};
use gse_qemu::process;

/// What is kept in the documentation, and run: a line for a shell, and what its variables stand for.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    line: String,
    variables: Vec<(&'static str, OsString)>,
    around: Vec<OsString>,
}

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// The memory of all of its processes that asked for it with `$PEAK`, each at its peak, in bytes.
    pub(crate) peak: u64,
}

impl Command {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), variables: Vec::new(), around: Vec::new() }
    }

    /// The same command with a variable.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name, value.as_ref().to_owned()));
        self
    }

    /// The same command, started by another one: its name and first arguments.
    #[must_use]
    pub(crate) fn within(mut self, words: &[&str]) -> Self {
        self.around.extend(words.iter().map(OsString::from));
        self
    }

    /// Runs it. `work` is a directory for a moment's files.
    pub(crate) fn run(&self, work: &Path) -> Result<Run> {
        let (peaks, said) = (work.join("peaks"), work.join("said"));
        fs::write(&peaks, "").with_context(|| format!("writing {}", peaks.display()))?;
        let log =
            fs::File::create(&said).with_context(|| format!("creating {}", said.display()))?;
        let mut words = self.around.clone();
        words.extend(["bash", "-o", "pipefail", "-euc"].map(OsString::from));
        words.push(OsString::from(&self.line));
        let program = words.remove(0);
        let mut command = process::command(program);
        let mut peak = OsString::from("/usr/bin/time --append --format=%M --output=");
        peak.push(&peaks);
        command.args(words).env("PEAK", peak).env("LC_ALL", "C");
        command.envs(self.variables.iter().map(|(n, v)| (n, v)));
        command.stdin(Stdio::null()).stderr(log);
        let start = Instant::now();
        let done = process::output(command);
        let seconds = start.elapsed().as_secs_f64();
        done.with_context(|| {
            let said = fs::read(&said).unwrap_or_default();
            let tail = said.len().saturating_sub(2000);
            String::from_utf8_lossy(said.get(tail..).unwrap_or_default()).into_owned()
        })?;
        let kib = fs::read_to_string(&peaks)
            .with_context(|| format!("reading {}", peaks.display()))?
            .lines()
            .filter_map(|line| line.parse::<u64>().ok())
            .sum::<u64>();
        Ok(Run { seconds, peak: kib << 10 })
    }
}

/// Runs several commands by turns, so that what else the machine does meets all of them, and gives the
/// median of each. `before` is called before each run.
pub(crate) fn by_turns(
    commands: &[Command],
    runs: usize,
    work: &Path,
    mut before: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Run>> {
    let mut all: Vec<Vec<Run>> = vec![Vec::new(); commands.len()];
    for _ in 0..runs {
        for (nth, (command, done)) in commands.iter().zip(&mut all).enumerate() {
            before(nth)?;
            done.push(command.run(work)?);
        }
    }
    all.iter().map(|runs| median_run(runs)).collect()
}

fn median_run(runs: &[Run]) -> Result<Run> {
    let seconds = median(runs.iter().map(|r| r.seconds))?;
    let peak = runs.iter().map(|r| r.peak).max().unwrap_or_default();
    Ok(Run { seconds, peak })
}

/// The middle one, or the lower of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Result<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().context("there was nothing to take the median of")
}

/// Says on standard error what is being measured.
pub(crate) fn say(what: &str) {
    eprintln!("bench: {what}");
}

/// Reads a file once, so that no run has to wait for the disk that others need not wait for.
pub(crate) fn warm(path: &Path) -> Result<()> {
    let mut cat = process::command("sh");
    let script = OsStr::from_bytes(b"tar -cf - -C \"$1\" . | cat >/dev/null");
    cat.arg("-c").arg(script).arg("sh").arg(path);
    process::output(cat).map(drop).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]).unwrap().to_bits(), 2.0_f64.to_bits());
        assert_eq!(median([4.0, 1.0]).unwrap().to_bits(), 1.0_f64.to_bits());
        assert!(median([]).is_err());
    }

    #[test]
    fn a_command_that_fails_is_an_error_with_what_it_said() {
        let work = tempfile::tempdir().unwrap();
        let error = Command::new("echo no luck >&2; false | true").run(work.path()).unwrap_err();
        assert!(format!("{error:#}").contains("no luck"), "{error:#}");
    }

    #[test]
    fn a_command_sees_its_variables() {
        let work = tempfile::tempdir().unwrap();
        let command = Command::new("echo \"$WORD\" >\"$FILE\"");
        let file = work.path().join("a file");
        command.with("WORD", "it").with("FILE", &file).run(work.path()).unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), "it\n");
    }
}
