//! What there is to choose.

use std::path::PathBuf;

pub use super::files::{Group, Listed};
use super::lists::{releases, states};
use crate::releases::Published;

/// One line of a menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is called.
    pub label: String,
    /// What it does, in one sentence.
    pub about: String,
    /// What happens when it is chosen.
    pub action: Action,
}

/// What a choice does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Shows another menu.
    Open(Vec<Item>),
    /// Runs gse with these arguments inside the menu, where nobody is asked.
    Run(Vec<String>),
    /// Runs gse with these arguments in the terminal, with all its questions.
    Terminal(Vec<String>),
    /// Asks for words, and then runs gse with what [`Question::arguments`] makes of them.
    Ask(Question),
    /// Opens a file of the configuration in the editor.
    Edit(PathBuf),
    /// Shows a page of the manual: its section and its name.
    Manual(&'static str, &'static str),
    /// Shows a text.
    Text(&'static str),
    /// A shell, until it ends.
    Shell,
    /// Ends the menu.
    Quit,
}

/// Words that are needed before a command can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked for.
    pub prompt: &'static str,
    /// The flag that takes the answer; with `=` in it, its value begins there.
    pub flag: &'static str,
    /// Whether each word of the answer is an argument of its own; otherwise it is the flag's value after `=`.
    pub words: bool,
    /// Arguments beside it.
    pub more: Vec<String>,
}

impl Question {
    /// The arguments for an answer.
    pub fn arguments(&self, answer: &str) -> Vec<String> {
        let mut all = if self.words {
            let words = answer.split_whitespace().map(str::to_owned);
            [self.flag.to_owned()].into_iter().chain(words).collect()
        } else if self.flag.contains('=') {
            vec![format!("{}{}", self.flag, answer.trim())]
        } else {
            vec![format!("{}={}", self.flag, answer.trim())]
        };
        all.extend(self.more.iter().cloned());
        all
    }
}

/// What the menu is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting {
    /// Flags that were given beside `-mm`, which builds get.
    pub carried: Vec<String>,
    /// The bases that builds can start from.
    pub bases: Vec<String>,
    /// The configuration, if there is one.
    pub config: Option<PathBuf>,
    /// Its files.
    pub files: Vec<Listed>,
    /// What is published, the newest first, as far as that can be read.
    pub releases: Vec<Published>,
    /// The names of saved runs, the oldest first.
    pub states: Vec<String>,
}

pub(super) fn item(label: impl Into<String>, about: &str, action: Action) -> Item {
    Item { label: label.into(), about: about.to_owned(), action }
}

pub(super) fn words(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

/// The main menu.
pub fn main(setting: &Setting) -> Vec<Item> {
    vec![
        item(
            "Build a system",
            "From catalyst or from a precompiled stage3, in parts.",
            builds(setting),
        ),
        item(
            "Configuration files",
            "What goes into systems and machines, by category.",
            configuration(setting),
        ),
        item(
            "Portage",
            "make.conf, package.use, repositories, profiles.",
            group(setting, Group::Portage),
        ),
        item(
            "Default system and releases",
            "What is published, and which of it machines take.",
            releases(setting),
        ),
        item(
            "Controller",
            "The initramfs of the machines, and their configuration.",
            controller(setting),
        ),
        item("States", "Saved runs, to be run again.", states(setting)),
        item("Tools", "Checks of this installation, keys, the server.", tools()),
        item("Documentation", "The manual.", documentation()),
        item("About", "What this is.", Action::Text(ABOUT)),
        item("Terminal", "A shell; the menu comes back when it ends.", Action::Shell),
        item("Quit", "Ends the menu.", Action::Quit),
    ]
}

const ABOUT: &str = concat!(
    "GSE ",
    env!("CARGO_PKG_VERSION"),
    ", Gentoo Stateless Environment\n\n\
     Lab machines that install, update and mend themselves from one signed\n\
     image; and the builder that makes that image from Gentoo's sources.\n\n\
     Free software under the GNU General Public License, version 2 or later.\n\
     There is no warranty, to the extent permitted by law."
);

fn builds(setting: &Setting) -> Action {
    let base = |base: &String| {
        let name = match base.as_str() {
            "catalyst" => "Catalyst".to_owned(),
            "precomp" => "Precompiled".to_owned(),
            other => other.to_owned(),
        };
        item(name, "Builds from this base.", Action::Open(build(setting, base)))
    };
    Action::Open(setting.bases.iter().map(base).collect())
}

fn build(setting: &Setting, base: &str) -> Vec<Item> {
    let flag = format!("--base={base}");
    let with = |more: &[&str]| [vec![flag.clone()], setting.carried.clone(), words(more)].concat();
    let ask = |prompt, flag, more: Vec<String>| {
        Action::Ask(Question { prompt, flag, words: false, more })
    };
    vec![
        item(
            "Initiate build",
            "Goes on with a build that was interrupted. Nobody is asked: what fails stops it.",
            Action::Run(with(&[])),
        ),
        item(
            "Initiate build in the terminal",
            "The same, with all questions, and a shell where something fails.",
            Action::Terminal(with(&[])),
        ),
        item("Build anew", "Forgets the earlier build.", Action::Run(with(&["--force-new"]))),
        item(
            "Build anew, keep the earlier one",
            "Its tree is kept aside.",
            Action::Run(with(&["--keep"])),
        ),
        item("Build and publish", "Asks for the version.", ask("Version", "--version", with(&[]))),
        item(
            "Do hook points again",
            "Asks for their names, such as gupdate,ginstall.",
            ask("Hook points", "--enforce", with(&[])),
        ),
        item(
            "Build and save as a state",
            "Asks for a name; States runs it again.",
            ask("Name", "--time-state", with(&[])),
        ),
        item("Configuration", "What goes into the system.", group(setting, Group::System)),
    ]
}

fn configuration(setting: &Setting) -> Action {
    let each = |of: &Group| item(of.name(), of.about(), group(setting, *of));
    let mut items: Vec<Item> = Group::ALL.iter().map(each).collect();
    items.push(item(
        "Check what machines read",
        "As it will be read by them.",
        Action::Run(with_config(setting, "--check-config")),
    ));
    Action::Open(items)
}

fn with_config(setting: &Setting, flag: &str) -> Vec<String> {
    vec![match &setting.config {
        Some(config) => format!("{flag}={}", config.display()),
        None => flag.to_owned(),
    }]
}

fn group(setting: &Setting, of: Group) -> Action {
    let edit = |file: &Listed| {
        let about = if file.exists {
            "Opens it in the editor."
        } else {
            "Is not there yet: the editor makes it."
        };
        item(file.name.clone(), about, Action::Edit(file.path.clone()))
    };
    Action::Open(setting.files.iter().filter(|file| file.group == of).map(edit).collect())
}

fn controller(setting: &Setting) -> Action {
    Action::Open(vec![
        item(
            "Build the controller",
            "For the kernel that runs here.",
            Action::Run(words(&["--build-controller"])),
        ),
        item(
            "Build the controller for another kernel",
            "Asks for the directory of its modules.",
            Action::Ask(Question {
                prompt: "Directory of the kernel's modules",
                flag: "--build-controller",
                words: false,
                more: Vec::new(),
            }),
        ),
        item(
            "Check the configuration",
            "As machines will read it.",
            Action::Run(with_config(setting, "--check-config")),
        ),
        item(
            "Publish the configuration",
            "Machines take it at their next start.",
            Action::Run(with_config(setting, "--publish-config")),
        ),
        item("Configuration files", "What machines read.", group(setting, Group::Machines)),
    ])
}

fn tools() -> Action {
    let ask = |prompt, flag| Action::Ask(Question { prompt, flag, words: false, more: Vec::new() });
    Action::Open(vec![
        item(
            "Check gse's own files",
            "Against what was installed.",
            Action::Run(words(&["--health-check"])),
        ),
        item(
            "Put back the default configuration",
            "The present one is kept aside.",
            Action::Run(words(&["--replace-new"])),
        ),
        item("Make a key pair", "Asks for the file of the secret key.", ask("File", "--keygen")),
        item("Verify a file", "Asks for a file that gse signed.", ask("File", "--verify")),
        item("Serve", "What is published, until it is stopped.", Action::Run(words(&["--serve"]))),
    ])
}

fn documentation() -> Action {
    let page = |section, name, about: &str| {
        item(format!("{name}({section})"), about, Action::Manual(section, name))
    };
    Action::Open(vec![
        page("1", "gse", "Flags, scripts, states, releases."),
        page("5", "gse", "Parts, hook points, files of a build."),
        page("5", "gse-config", "Every file of the configuration."),
        page("8", "gse-controller", "What machines do at their start."),
    ])
}

#[cfg(test)]
mod tests {
    use gse_protocol::Serial;

    use super::*;
    use crate::releases::Standing;

    #[test]
    fn an_answer_becomes_a_value_or_words() {
        let question =
            |words| Question { prompt: "", flag: "--x", words, more: vec!["-v".to_owned()] };
        assert_eq!(question(false).arguments(" a b "), ["--x=a b", "-v"]);
        assert_eq!(question(true).arguments(" a  b "), ["--x", "a", "b", "-v"]);
    }

    /// Every command of every menu, with an answer where one is asked for.
    fn commands(items: &[Item], found: &mut Vec<Vec<String>>) {
        for item in items {
            match &item.action {
                Action::Open(items) => commands(items, found),
                Action::Run(arguments) | Action::Terminal(arguments) => {
                    found.push(arguments.clone())
                }
                Action::Ask(question) => {
                    found.push(question.arguments(if question.words { "1 2" } else { "1" }));
                }
                _ => {}
            }
        }
    }

    fn published(version: &str, standing: Standing) -> Published {
        Published {
            name: "lab".to_owned(),
            version: version.to_owned(),
            serial: Serial(1),
            standing,
            packed: 1,
            installed: 1,
            entries: 1,
            made: 0,
            folder: format!("images/lab-{version}"),
        }
    }

    #[test]
    fn every_command_of_the_menu_is_one_that_gse_understands() {
        let setting = Setting {
            bases: vec!["precomp".to_owned()],
            carried: vec!["--verbose".to_owned()],
            releases: vec![published("2", Standing::Default), published("1", Standing::Withdrawn)],
            states: vec!["spring".to_owned()],
            ..Setting::default()
        };
        let mut found = Vec::new();
        commands(&main(&setting), &mut found);
        assert!(found.len() > 20, "{found:?}");
        for one in ["--default=1", "--time-warp=spring", "--edit=spring"] {
            assert!(found.iter().any(|arguments| arguments == &[one]), "{one}: {found:?}");
        }
        for arguments in found {
            let words = ["gse"].into_iter().chain(arguments.iter().map(String::as_str));
            let read = crate::cli::read(words.map(Into::into));
            assert!(matches!(read, Ok(crate::cli::Asked::Run(_))), "{arguments:?}: {read:?}");
        }
    }
}
