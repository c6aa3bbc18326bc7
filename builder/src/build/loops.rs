//! The three loops that a failed command in the new system ends in: the master loop goes on until one of the other two is
//! content, the emerge loop knows `emerge --resume`, and the other one offers a shell to mend what is wrong.

use std::{fs::File, io, path::Path, process::Stdio};

use super::{
    ask::{Asker, Choice, Silence},
    run::{Cmd, Failed, Runner},
};

/// What happens after a failure when nobody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnFailure {
    /// The build ends, to be gone on with.
    #[default]
    Stop,
    /// It goes on without what failed: emerge without the package, everything else without the command.
    Skip,
}

/// A build that ends here.
#[derive(Debug, thiserror::Error)]
#[error("{failed}{}\n{why}", concerned(.items))]
pub struct Stopped {
    /// The command that failed last.
    pub failed: Failed,
    /// What it was about.
    pub items: Vec<String>,
    /// Why there was no other way.
    pub why: &'static str,
}

fn concerned(items: &[String]) -> String {
    if items.is_empty() {
        String::new()
    } else {
        format!("\nit concerns:\n  {}", items.join("\n  "))
    }
}

const RESUME: Choice =
    Choice { word: "resume", meaning: "emerge --resume: go on with the package that failed" };
const SKIP_FIRST: Choice = Choice {
    word: "skip",
    meaning: "emerge --resume --skipfirst: go on without the package that failed",
};
const RETRY: Choice = Choice { word: "retry", meaning: "the same command again" };
const SKIP: Choice = Choice { word: "skip", meaning: "go on without it" };
const SHELL: Choice =
    Choice { word: "shell", meaning: "a shell in the new system; come back with exit" };
const ABORT: Choice =
    Choice { word: "abort", meaning: "end the build here; the same command goes on with it later" };

/// Where emerge keeps what is left to do.
const RESUME_LIST: &str = "/var/cache/edb/mtimedb";

/// Runs commands with the loops around them.
#[derive(Debug)]
pub struct Loops<'a> {
    /// What runs the commands.
    pub runner: &'a Runner<'a>,
    /// Who is asked.
    pub asker: Asker,
    /// If nobody is.
    pub on_failure: OnFailure,
}

/// What comes after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Resume,
    SkipFirst,
    Retry,
    Skip,
    Stop(&'static str),
}

impl Loops<'_> {
    /// Runs a command of emerge's.
    ///
    /// # Errors
    /// If it fails, and the person or the policy wants no more.
    pub fn emerge(&mut self, cmd: &Cmd) -> Result<(), Stopped> {
        // It may be started by another program.
        let emerge = Cmd::new(&cmd.program)
            .args(cmd.args.iter().take_while(|arg| *arg == "emerge").cloned());
        let resume = emerge.args(["--resume", "--ask=n"]);
        let skip_first = resume.clone().arg("--skipfirst");
        self.master(
            &[],
            |runner, next| {
                runner.run(match next {
                    Some(Next::Resume) => &resume,
                    Some(Next::SkipFirst) => &skip_first,
                    _ => cmd,
                })
            },
            true,
        )
    }

    /// Runs any other command; `items` are what it is about.
    ///
    /// # Errors
    /// If it fails, and the person or the policy wants no more.
    pub fn command(&mut self, cmd: &Cmd, items: &[String]) -> Result<(), Stopped> {
        self.master(items, |runner, _| runner.run(cmd), false)
    }

    /// Does anything else that can fail; `what` names it as a command would be.
    ///
    /// # Errors
    /// If it fails, and the person or the policy wants no more.
    pub fn work(
        &mut self,
        what: &str,
        items: &[String],
        mut work: impl FnMut() -> io::Result<()>,
    ) -> Result<(), Stopped> {
        self.master(
            items,
            |runner, _| {
                runner.log().command(what);
                work().map_err(|e| Failed {
                    command: what.to_owned(),
                    how: format!("fails: {e}"),
                    last: String::new(),
                })
            },
            false,
        )
    }

    /// Goes on until `attempt` is content, or there is no more to try.
    fn master(
        &mut self,
        items: &[String],
        mut attempt: impl FnMut(&Runner<'_>, Option<Next>) -> Result<(), Failed>,
        emerge: bool,
    ) -> Result<(), Stopped> {
        let mut next = None;
        loop {
            let Err(failed) = attempt(self.runner, next) else { return Ok(()) };
            let stopped = |why| Stopped { failed: failed.clone(), items: items.to_vec(), why };
            let resumable = emerge && has_resume_list(Path::new(RESUME_LIST));
            let said = stopped("").to_string();
            if matches!(self.asker, Asker::Person(_)) {
                self.runner.log().warn(said.trim_end());
            }
            next = match self.decide(emerge, resumable, next) {
                Next::Stop(why) => return Err(stopped(why)),
                // Whoever is not asked is told all the same.
                Next::SkipFirst if matches!(self.asker, Asker::Nobody(_)) => {
                    self.runner.log().warn(said.trim_end());
                    Some(Next::SkipFirst)
                }
                Next::Skip => {
                    self.runner.log().warn(format!(
                        "{}\ngoing on without: {}",
                        said.trim_end(),
                        failed.command
                    ));
                    return Ok(());
                }
                other => Some(other),
            };
        }
    }

    fn decide(&mut self, emerge: bool, resumable: bool, last: Option<Next>) -> Next {
        let why = match &self.asker {
            Asker::Person(_) => return self.ask(emerge, resumable),
            Asker::Nobody(Silence::Off) => {
                "questions are off, so the build ends here. Mend the cause, and start the same command \
                again: it goes on at this step. --on-failure=skip goes on without what fails. Without --auto=no and --verbose you are asked"
            }
            Asker::Nobody(Silence::NoTerminal) => {
                "there is no terminal to ask on, so the build ends here. Mend the cause, and start \
                the same command again: it goes on at this step. --on-failure=skip goes on without what fails"
            }
        };
        policy(self.on_failure, emerge, resumable, last, why)
    }

    fn ask(&mut self, emerge: bool, resumable: bool) -> Next {
        let choices: &[Choice] = match (emerge, resumable) {
            (true, true) => &[RESUME, SKIP_FIRST, RETRY, SHELL, ABORT],
            (true, false) => &[RETRY, SKIP, SHELL, ABORT],
            (false, _) => &[SHELL, RETRY, SKIP, ABORT],
        };
        const ABORTED: &str = "the build ends here, as you said. Start the same command again: it goes on at this step";
        loop {
            match self.asker.choose("What now?", choices) {
                Some("resume") => return Next::Resume,
                Some("retry") => return Next::Retry,
                Some("skip") if resumable => return Next::SkipFirst,
                Some("skip") => return Next::Skip,
                Some("shell") => {
                    if let Err(e) = self.shell() {
                        self.runner.log().warn(format!("the shell does not start: {e}"));
                    }
                }
                Some(_) => return Next::Stop(ABORTED),
                None => {
                    return Next::Stop(
                        "the terminal is gone, so the build ends here. Start the same command again: it goes on at this step",
                    );
                }
            }
        }
    }

    /// A shell in the new system, on a terminal of its own within the person's: an interactive shell takes the terminal for
    /// itself, and in another process namespace it cannot give it back.
    fn shell(&self) -> io::Result<()> {
        let Some(terminal) = self.asker.terminal() else { return Ok(()) };
        let terminal: File = terminal?;
        // The shell that script starts forgets a prompt from the environment.
        let shell = "PS1='(gse) \\w \\$ ' exec bash --norc -i";
        let cmd = Cmd::new("script").args(["--quiet", "--command", shell, "/dev/null"]);
        self.runner.log().command(&cmd);
        let mut command = self.runner.command(&cmd);
        command.stdin(Stdio::from(terminal.try_clone()?));
        command.stdout(Stdio::from(terminal.try_clone()?));
        command.stderr(Stdio::from(terminal));
        // How it ends says nothing about whether the cause is mended.
        command.spawn()?.wait().map(drop)
    }
}

/// What happens when nobody is asked. Skipping ends: each time there is one package less.
fn policy(
    on_failure: OnFailure,
    emerge: bool,
    resumable: bool,
    last: Option<Next>,
    why: &'static str,
) -> Next {
    match (on_failure, emerge, resumable) {
        (OnFailure::Stop, _, _) => Next::Stop(why),
        (OnFailure::Skip, true, true) => Next::SkipFirst,
        // The package that failed was the last one.
        (OnFailure::Skip, true, false) if last == Some(Next::SkipFirst) => Next::Skip,
        // emerge did not even begin: there is no single package to leave out.
        (OnFailure::Skip, true, false) => Next::Stop(why),
        (OnFailure::Skip, false, _) => Next::Skip,
    }
}

/// Whether emerge knows what is left to do. The file is JSON
/// (<https://gitweb.gentoo.org/proj/portage.git/tree/lib/portage/util/mtimedb.py>).
fn has_resume_list(mtimedb: &Path) -> bool {
    let Ok(bytes) = std::fs::read(mtimedb) else { return false };
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    value
        .pointer("/resume/mergelist")
        .and_then(|list| list.as_array())
        .is_some_and(|l| !l.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::build::log::{Log, Mode};

    fn loops<T>(on_failure: OnFailure, work: impl FnOnce(&mut Loops<'_>) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), Mode::Quiet).unwrap();
        let asker = Asker::Nobody(Silence::Off);
        work(&mut Loops { runner: &Runner::new(&log), asker, on_failure })
    }

    #[test]
    fn without_questions_a_failure_stops_and_says_how_to_go_on() {
        let stopped = loops(OnFailure::Stop, |loops| {
            let items = ["one".to_owned(), "two".to_owned()];
            loops.command(&Cmd::new("sh").args(["-c", "echo broken >&2; exit 1"]), &items)
        });
        let text = stopped.unwrap_err().to_string();
        for expected in
            ["ended with 1", "broken", "one\n  two", "questions are off", "the same command"]
        {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_policy_can_be_to_go_on_without() {
        loops(OnFailure::Skip, |loops| loops.command(&Cmd::new("false"), &[])).unwrap();
        loops(OnFailure::Skip, |loops| loops.work("x", &[], || Err(io::Error::other("y"))))
            .unwrap();
    }

    #[test]
    fn only_packages_are_left_out_of_emerge() {
        let policy = |resumable, last| policy(OnFailure::Skip, true, resumable, last, "why");
        assert_eq!(policy(true, None), Next::SkipFirst);
        assert_eq!(policy(true, Some(Next::SkipFirst)), Next::SkipFirst);
        assert_eq!(policy(false, Some(Next::SkipFirst)), Next::Skip);
        assert_eq!(policy(false, None), Next::Stop("why"));
    }

    #[test]
    fn a_resume_list_is_known_by_its_packages() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mtimedb");
        assert!(!has_resume_list(&file));
        for (text, expected) in [
            ("not JSON", false),
            ("{}", false),
            (r#"{"resume": {"mergelist": []}}"#, false),
            (r#"{"resume": {"mergelist": [["ebuild", "/", "a/b-1", "merge"]]}}"#, true),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(has_resume_list(&file), expected, "{text}");
        }
    }
}
