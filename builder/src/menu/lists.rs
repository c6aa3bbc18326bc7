//! The menus of what is published, and of saved runs: a line for each, where they are known.

use super::{
    entries::{Action, Item, Question, Setting, ask, item},
    place::Place,
};
use crate::releases::{Published, Standing};

/// What the commands about releases read.
const OF_RELEASES: [Place; 3] = [Place::Dist, Place::Key, Place::Pub];

/// A line for each of `lines`, or a question where there is none.
fn each_or(lines: Vec<Item>, otherwise: Action) -> Action {
    if lines.is_empty() { otherwise } else { Action::Open(lines) }
}

/// What is published, and which of it machines take.
pub(super) fn releases(setting: &Setting) -> Action {
    let with = |flags: &[&str]| setting.with(flags, &OF_RELEASES);
    let default = |image: &Published| {
        let (note, about) = match image.standing {
            Standing::Default => (" (default)", "Machines take it now."),
            Standing::Published => ("", "Machines take it at their next start."),
            Standing::Withdrawn => (" (withdrawn)", "It is offered again, and machines take it."),
        };
        let label = format!("{} {}{note}", image.name, image.version);
        item(label, about, Action::Sure(with(&[&format!("--default={}", image.version)])))
    };
    let withdraw = |image: &Published| {
        let label = format!("{} {}", image.name, image.version);
        let flag = format!("--withdraw={}", image.version);
        item(label, "It is offered no longer.", Action::Sure(with(&[&flag])))
    };
    let compare = |pair: &[Published]| match pair {
        [new, old] => {
            let flags = with(&["--diff", &old.version, &new.version]);
            let label = format!("{} {} -> {}", new.name, old.version, new.version);
            Some(item(label, "Packages and files that changed, sizes.", Action::Run(flags)))
        }
        _ => None,
    };
    let two = Question {
        prompt: "Old and new version",
        flag: "--diff",
        words: true,
        before: Vec::new(),
        after: with(&[]),
    };
    let mut pairs: Vec<Item> = setting.releases.windows(2).filter_map(compare).collect();
    if !pairs.is_empty() {
        pairs.push(item("Two others", "Asks for both versions.", Action::Ask(two.clone())));
    }
    let offered = setting.releases.iter().filter(|image| image.standing != Standing::Withdrawn);
    Action::Open(vec![
        item(
            "List",
            "What is published; an asterisk marks the default.",
            Action::Run(with(&["--releases"])),
        ),
        item(
            "Select the default system",
            "What machines take at their next start.",
            each_or(
                setting.releases.iter().map(default).collect(),
                ask("Version", "--default", with(&[])),
            ),
        ),
        item("Compare two", "Packages, files, sizes.", each_or(pairs, Action::Ask(two))),
        item(
            "Withdraw",
            "A version that is offered no longer.",
            each_or(offered.map(withdraw).collect(), ask("Version", "--withdraw", with(&[]))),
        ),
        item(
            "Remove what is no longer needed",
            "Shows withdrawn and old images first, and asks before they go.",
            Action::Preview(with(&["--prune"]), with(&["--prune", "--force"])),
        ),
    ])
}

/// Saved runs.
pub(super) fn states(setting: &Setting) -> Action {
    let with = |flag: &str| setting.with(&[flag], &[Place::Local]);
    let lines = |about: &str, line: &dyn Fn(&String) -> Action| -> Vec<Item> {
        setting.states.iter().map(|name| item(name.clone(), about, line(name))).collect()
    };
    let warp =
        lines("Runs it again.", &|name| Action::Terminal(with(&format!("--time-warp={name}"))));
    let edit = lines("Opens its configuration.", &|name| {
        Action::Terminal(with(&format!("--edit={name}")))
    });
    let delete =
        lines("It is gone then.", &|name| Action::Sure(with(&format!("--time-state=-{name}"))));
    let otherwise = |flag| ask("State", flag, setting.with(&[], &[Place::Local]));
    Action::Open(vec![
        item("List", "Saved runs, with their numbers.", Action::Run(with("--time-state?"))),
        item(
            "Run again",
            "With its own flags and configuration.",
            each_or(warp, otherwise("--time-warp")),
        ),
        item("Edit", "The configuration that it has saved.", each_or(edit, otherwise("--edit"))),
        item("Delete", "It cannot be run again.", each_or(delete, otherwise("--time-state=-"))),
    ])
}
