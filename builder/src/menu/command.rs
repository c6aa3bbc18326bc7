//! From the command line to the menu.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{IsTerminal as _, stdin, stdout},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::ValueEnum as _;

use super::{
    categories::files,
    entries::{Action, Item, Setting, main},
    model::{Model, command as command_of},
    place::Place,
    screen::show,
};
use crate::{
    build::Base,
    cli::{Cli, written_out},
    commands::print_line,
    config_d,
    releases::{Published, Store},
    states::States,
};

/// `gse`, `gse -mm`. Without a terminal the menu is printed.
///
/// # Errors
/// Those of the terminal.
pub fn command(
    cli: &Cli,
    arguments: impl IntoIterator<Item = OsString>,
) -> anyhow::Result<ExitCode> {
    let here = env::current_dir().context("finding the current directory")?;
    let config = config_d::find(cli.config.as_deref()).ok().map(|config| here.join(config));
    let bases = Base::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
    let fixed = Setting {
        carried: carried(arguments),
        bases: bases.map(|base| base.get_name().to_owned()).collect(),
        places: Place::named(cli),
        ..Setting::default()
    };
    let items = || {
        main(&Setting {
            files: config.as_deref().map(files).unwrap_or_default(),
            releases: published(cli),
            states: saved(cli),
            ..fixed.clone()
        })
    };
    if !stdin().is_terminal() || !stdout().is_terminal() {
        let mut text =
            "There is no terminal for a menu. These are its choices and their commands:\n"
                .to_owned();
        outline(&items(), 1, &mut text);
        print_line(text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    show(Model::new(items(), host()), config.as_deref(), &items).context("showing the menu")?;
    Ok(ExitCode::SUCCESS)
}

/// What is published. Where it cannot be read, the command that needs it says why.
fn published(cli: &Cli) -> Vec<Published> {
    Store::of(cli).and_then(|store| Ok(store.list()?)).unwrap_or_default()
}

/// The names of saved runs, likewise.
fn saved(cli: &Cli) -> Vec<String> {
    let all = States::of(&cli.local).and_then(|states| states.list()).unwrap_or_default();
    all.into_iter().map(|(name, _)| name).collect()
}

/// The flags beside `-mm`.
fn carried(arguments: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let texts = written_out(arguments).skip(1).map(|arg| arg.to_string_lossy().into_owned());
    texts.filter(|arg| arg != "--menu").collect()
}

fn host() -> String {
    let is_gentoo = Path::new("/etc/gentoo-release").exists()
        || fs::read_to_string("/etc/os-release").is_ok_and(|text| is_gentoo(&text));
    if is_gentoo { "host: Gentoo".to_owned() } else { "host: not Gentoo".to_owned() }
}

/// As os-release(5) says it.
fn is_gentoo(text: &str) -> bool {
    text.lines().any(|line| matches!(line, "ID=gentoo" | "ID=\"gentoo\""))
}

fn outline(items: &[Item], depth: usize, text: &mut String) {
    for item in items {
        let answer = match &item.action {
            Action::Ask(question) => question.prompt.to_uppercase().replace(' ', "-"),
            _ => String::new(),
        };
        let lines: Vec<String> =
            item.action.commands(&answer).iter().map(|c| command_of(c)).collect();
        let line = match &item.action {
            Action::Manual(section, name) => format!("man {section} {name}"),
            _ => lines.join(" && "),
        };
        let line = if line.is_empty() { line } else { format!(": {line}") };
        text.push_str(&format!("{:1$}{label}{line}\n", "", depth * 2, label = item.label));
        if let Action::Open(items) = &item.action {
            outline(items, depth + 1, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_beside_mm_are_carried() {
        let given = ["gse", "-mm", "-nk", "--auto=no"].map(OsString::from);
        assert_eq!(carried(given), ["--no-kernel", "--auto=no"]);
    }

    #[test]
    fn gentoo_is_known_by_its_id() {
        assert!(is_gentoo("NAME=Gentoo\nID=gentoo\n") && is_gentoo("ID=\"gentoo\""));
        assert!(!is_gentoo("ID=debian\nID_LIKE=gentoo\n"));
    }
}
