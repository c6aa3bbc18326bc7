//! The menus of what is published, and of saved runs: a line for each, where they are known.

use super::entries::{Action, Item, Question, Setting, item, words};
use crate::releases::{Published, Standing};

fn ask(prompt: &'static str, flag: &'static str) -> Action {
    Action::Ask(Question { prompt, flag, words: false, more: Vec::new() })
}

/// A line for each of `lines`, or a question where there is none.
fn each_or(lines: Vec<Item>, otherwise: Action) -> Action {
    if lines.is_empty() { otherwise } else { Action::Open(lines) }
}

/// What is published, and which of it machines take.
pub(super) fn releases(setting: &Setting) -> Action {
    let default = |image: &Published| {
        let (note, about) = match image.standing {
            Standing::Default => (" (default)", "Machines take it now."),
            Standing::Published => ("", "Machines take it at their next start."),
            Standing::Withdrawn => (" (withdrawn)", "It is offered again, and machines take it."),
        };
        let label = format!("{} {}{note}", image.name, image.version);
        item(label, about, Action::Run(vec![format!("--default={}", image.version)]))
    };
    let withdraw = |image: &Published| {
        let label = format!("{} {}", image.name, image.version);
        let flag = format!("--withdraw={}", image.version);
        item(label, "It is offered no longer.", Action::Run(vec![flag]))
    };
    let offered = setting.releases.iter().filter(|image| image.standing != Standing::Withdrawn);
    let compare =
        Question { prompt: "Old and new version", flag: "--diff", words: true, more: Vec::new() };
    Action::Open(vec![
        item(
            "List",
            "What is published; an asterisk marks the default.",
            Action::Run(words(&["--releases"])),
        ),
        item(
            "Select the default system",
            "What machines take at their next start.",
            each_or(setting.releases.iter().map(default).collect(), ask("Version", "--default")),
        ),
        item(
            "Compare two",
            "Asks for both versions: packages, files, sizes.",
            Action::Ask(compare),
        ),
        item(
            "Withdraw",
            "A version that is offered no longer.",
            each_or(offered.map(withdraw).collect(), ask("Version", "--withdraw")),
        ),
        item("Show what is no longer needed", "Removes nothing.", Action::Run(words(&["--prune"]))),
        item(
            "Remove what is no longer needed",
            "Withdrawn and old images.",
            Action::Run(words(&["--prune", "--force"])),
        ),
    ])
}

/// Saved runs.
pub(super) fn states(setting: &Setting) -> Action {
    let lines = |about: &str, line: &dyn Fn(&String) -> Action| -> Vec<Item> {
        setting.states.iter().map(|name| item(name.clone(), about, line(name))).collect()
    };
    let warp =
        lines("Runs it again.", &|name| Action::Terminal(vec![format!("--time-warp={name}")]));
    let edit =
        lines("Opens its configuration.", &|name| Action::Terminal(vec![format!("--edit={name}")]));
    let delete = lines("Deletes it.", &|name| Action::Run(vec![format!("--time-state=-{name}")]));
    Action::Open(vec![
        item("List", "Saved runs, with their numbers.", Action::Run(words(&["--time-state=?"]))),
        item(
            "Run again",
            "With its own flags and configuration.",
            each_or(warp, ask("State", "--time-warp")),
        ),
        item("Edit", "The configuration that it has saved.", each_or(edit, ask("State", "--edit"))),
        item("Delete", "It cannot be run again.", each_or(delete, ask("State", "--time-state=-"))),
    ])
}
