//! What there is to choose.

use std::path::PathBuf;

pub use super::{
    categories::{Group, Listed},
    place::Place,
};
use super::{
    categories::{categories, configuration},
    lists::{releases, states},
};
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
    /// The same, after a question: it cannot be taken back, or all machines see it.
    Sure(Vec<String>),
    /// Runs gse with the first arguments, which show what the second ones would do, and then offers those.
    Preview(Vec<String>, Vec<String>),
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

impl Action {
    /// The commands of gse that it stands for, with this answer where a question asks for one.
    pub fn commands(&self, answer: &str) -> Vec<Vec<String>> {
        match self {
            Self::Run(one) | Self::Sure(one) | Self::Terminal(one) => vec![one.clone()],
            Self::Preview(shows, does) => vec![shows.clone(), does.clone()],
            Self::Ask(question) => vec![question.arguments(answer)],
            _ => Vec::new(),
        }
    }
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
    /// Arguments before it.
    pub before: Vec<String>,
    /// Arguments after it.
    pub after: Vec<String>,
}

impl Question {
    /// The arguments for an answer.
    pub fn arguments(&self, answer: &str) -> Vec<String> {
        let asked = if self.words {
            let words = answer.split_whitespace().map(str::to_owned);
            [self.flag.to_owned()].into_iter().chain(words).collect()
        } else if self.flag.contains('=') {
            vec![format!("{}{}", self.flag, answer.trim())]
        } else {
            vec![format!("{}={}", self.flag, answer.trim())]
        };
        [self.before.clone(), asked, self.after.clone()].concat()
    }
}

/// What the menu is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting {
    /// Flags that were given beside `-mm`, which builds get.
    pub carried: Vec<String>,
    /// Those among them that say where things are, which every command gets that reads them.
    pub places: Vec<(Place, PathBuf)>,
    /// The bases that builds can start from.
    pub bases: Vec<String>,
    /// Files of the configuration, if there is one.
    pub files: Vec<Listed>,
    /// What is published, the newest first, as far as that can be read.
    pub releases: Vec<Published>,
    /// The names of saved runs, the oldest first.
    pub states: Vec<String>,
}

impl Setting {
    /// Arguments, and the places among `read` that were named beside `-mm`.
    pub(super) fn with(&self, arguments: &[&str], read: &[Place]) -> Vec<String> {
        let named = self.places.iter().filter(|(place, _)| read.contains(place));
        let named = named.map(|(place, path)| format!("{}={}", place.flag(), path.display()));
        arguments.iter().map(|argument| (*argument).to_owned()).chain(named).collect()
    }
}

pub(super) fn item(label: impl Into<String>, about: &str, action: Action) -> Item {
    Item { label: label.into(), about: about.to_owned(), action }
}

pub(super) fn ask(prompt: &'static str, flag: &'static str, after: Vec<String>) -> Action {
    Action::Ask(Question { prompt, flag, words: false, before: Vec::new(), after })
}

/// The main menu.
pub fn main(setting: &Setting) -> Vec<Item> {
    let both = [Group::Portage, Group::Profile];
    vec![
        item("Build a system", "From catalyst or from a precompiled stage3.", builds(setting)),
        item(
            "Configuration files",
            "What goes into systems and machines, by category.",
            configuration(setting),
        ),
        item(
            "Portage",
            "make.conf, package.use, repositories, profiles.",
            Action::Open(both.map(|group| categories(setting, group)).concat()),
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
        item("Tools", "Checks of this installation, keys, the server.", tools(setting)),
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
     Lab machines that install, update and mend themselves from one signed \
     image; and the builder that makes that image from Gentoo's sources.\n\n\
     Free software under the GNU General Public License, version 2 or later. \
     There is no warranty, to the extent permitted by law."
);

fn builds(setting: &Setting) -> Action {
    let base = |base: &String| {
        let (name, about) = match base.as_str() {
            "catalyst" => ("Catalyst", "Every stage is compiled here, from source."),
            "precomp" => ("Precompiled", "The latest stage3 of Gentoo's Release Engineering team."),
            other => (other, "Builds from this base."),
        };
        item(name, about, Action::Open(build(setting, base)))
    };
    Action::Open(setting.bases.iter().map(base).collect())
}

fn build(setting: &Setting, base: &str) -> Vec<Item> {
    let with = |more: &[&str]| {
        let more = more.iter().map(|flag| (*flag).to_owned());
        [vec![format!("--base={base}")], setting.carried.clone(), more.collect()].concat()
    };
    let ask = |prompt, flag| {
        let (before, after) = (with(&[]), Vec::new());
        Action::Ask(Question { prompt, flag, words: false, before, after })
    };
    let mut items = vec![
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
        item("Build anew", "Forgets the earlier build.", Action::Sure(with(&["--force-new"]))),
        item(
            "Build anew, keep the earlier one",
            "Its tree is kept aside.",
            Action::Run(with(&["--keep"])),
        ),
        item(
            "Build and publish",
            "Asks for the version. Machines take it at their next start.",
            ask("Version", "--version"),
        ),
        item(
            "Do hook points again",
            "Asks for their names, such as gupdate,ginstall; man 5 gse lists them.",
            ask("Hook points", "--enforce"),
        ),
        item(
            "Build without hook points",
            "Asks for their names, such as gkernel,ginitrd.",
            ask("Hook points", "--lawful-good"),
        ),
        item(
            "Build and save as a state",
            "Asks for a name, by which States runs it again.",
            ask("Name", "--time-state"),
        ),
    ];
    if base == "catalyst" {
        let specs = categories(setting, Group::Catalyst);
        items.push(item("Specs", "What the stages are made of.", Action::Open(specs)));
    }
    let groups = Group::ALL.into_iter().filter(|group| group.is_of_builds());
    let groups = groups.filter(|group| base == "catalyst" || *group != Group::Catalyst);
    let each = groups
        .map(|group| item(group.name(), group.about(), Action::Open(categories(setting, group))));
    items.push(item("Configuration", "What goes into the system.", Action::Open(each.collect())));
    items
}

fn controller(setting: &Setting) -> Action {
    use Place::{Config, Dist, Key};
    let build = [Config, Dist];
    Action::Open(vec![
        item(
            "Build the controller",
            "For the kernel that runs here.",
            Action::Run(setting.with(&["--build-controller"], &build)),
        ),
        item(
            "Build the controller for another kernel",
            "Asks for the directory of its modules, such as /lib/modules/6.12.3-gentoo.",
            ask("Directory of modules", "--build-controller", setting.with(&[], &build)),
        ),
        item(
            "Build it once more",
            "Writes over the one that is there.",
            Action::Run(setting.with(&["--build-controller", "--force"], &build)),
        ),
        item(
            "Check the configuration",
            "As machines will read it.",
            Action::Run(setting.with(&["--check-config"], &[Config])),
        ),
        item(
            "Publish the configuration",
            "Machines take it at their next start.",
            Action::Sure(setting.with(&["--publish-config"], &[Config, Dist, Key])),
        ),
        item(
            "Configuration files",
            "What machines read.",
            Action::Open(categories(setting, Group::Machines)),
        ),
        item(
            "Files of machines",
            "What machines put into the system that they boot.",
            Action::Open(categories(setting, Group::Applied)),
        ),
    ])
}

fn tools(setting: &Setting) -> Action {
    use Place::{Dist, Key, Pub};
    Action::Open(vec![
        item(
            "Check gse's own files",
            "Against what was installed.",
            Action::Run(setting.with(&["--health-check"], &[])),
        ),
        item(
            "Put back the default configuration",
            "The present one is kept aside.",
            Action::Sure(setting.with(&["--replace-new"], &[])),
        ),
        item(
            "Make a key pair",
            "Asks for the file of the secret key, such as gse.key.",
            ask("File", "--keygen", Vec::new()),
        ),
        item(
            "Verify a file",
            "Asks for a file that gse signed.",
            ask("File", "--verify", setting.with(&[], &[Key, Pub])),
        ),
        item(
            "Sign the content of a directory",
            "Asks for an archive for BOOTFS, such as etc.tar.zst.",
            ask("File", "--sign", setting.with(&[], &[Key])),
        ),
        item(
            "Serve",
            "What is published, until it is stopped.",
            Action::Run(setting.with(&["--serve"], &[Dist])),
        ),
    ])
}

fn documentation() -> Action {
    let page = |section, name, about: &str| {
        item(format!("{name}({section})"), about, Action::Manual(section, name))
    };
    Action::Open(vec![
        page("1", "gse", "Flags, scripts, states, releases."),
        page("5", "gse", "Parts, hook points, the GSE profile, files of a build."),
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
        let [before, after] = ["-b", "-v"].map(|flag| vec![flag.to_owned()]);
        let question = |words| Question {
            prompt: "",
            flag: "--x",
            words,
            before: before.clone(),
            after: after.clone(),
        };
        assert_eq!(question(false).arguments(" a b "), ["-b", "--x=a b", "-v"]);
        assert_eq!(question(true).arguments(" a  b "), ["-b", "--x", "a", "b", "-v"]);
    }

    /// Every command of every menu, with an answer where one is asked for.
    fn commands(items: &[Item], found: &mut Vec<Vec<String>>) {
        for item in items {
            match &item.action {
                Action::Open(items) => commands(items, found),
                Action::Ask(question) if question.words => found.push(question.arguments("1 2")),
                action => found.extend(action.commands("1")),
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
        let places = [Place::Dist, Place::Key, Place::Pub, Place::Local, Place::Config];
        let setting = Setting {
            bases: vec!["precomp".to_owned(), "catalyst".to_owned()],
            carried: vec!["--verbose".to_owned()],
            places: places.map(|place| (place, PathBuf::from("/there"))).to_vec(),
            releases: vec![published("2", Standing::Default), published("1", Standing::Withdrawn)],
            states: vec!["spring".to_owned()],
            ..Setting::default()
        };
        let mut found = Vec::new();
        commands(&main(&setting), &mut found);
        assert!(found.len() > 20, "{found:?}");
        for one in [
            "--default=1 --dist=/there --key=/there --pub=/there",
            "--time-warp=spring --local=/there",
            "--edit=spring --local=/there",
            "--prune --force --dist=/there --key=/there --pub=/there",
            "--check-config --config=/there",
        ] {
            assert!(found.iter().any(|arguments| arguments.join(" ") == one), "{one}: {found:?}");
        }
        for arguments in found {
            let words = ["gse"].into_iter().chain(arguments.iter().map(String::as_str));
            let read = crate::cli::read(words.map(Into::into));
            assert!(matches!(read, Ok(crate::cli::Asked::Run(_))), "{arguments:?}: {read:?}");
        }
    }
}
