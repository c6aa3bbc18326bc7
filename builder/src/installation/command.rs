//! From the command line to the installation.

use std::{path::PathBuf, process::ExitCode};

use super::{Health, Installation};
use crate::{
    cli::Cli,
    commands::{created, print_json, print_line},
};

/// The exit code where a check came to its end and found something.
const FOUND: u8 = 3;

/// `--health-check`, `--replace-new`; none if the command line has neither.
///
/// # Errors
/// Those of what was asked for.
pub fn command(cli: &Cli) -> anyhow::Result<Option<ExitCode>> {
    if cli.installation.health_check {
        let health = Installation::of_this_program()?.check()?;
        if cli.json {
            print_json(&health)?
        } else {
            print_line(&report(&health))?
        }
        let sound = health.changed.is_empty() && health.missing.is_empty();
        return Ok(Some(if sound { ExitCode::SUCCESS } else { ExitCode::from(FOUND) }));
    }
    if cli.installation.replace_new {
        let aside = Installation::of_this_program()?.replace(created()?)?;
        print_line(&match aside {
            None => "the configuration is the default one".to_owned(),
            Some(aside) => format!(
                "the default configuration is back; what was there is in {}",
                aside.display()
            ),
        })?;
        return Ok(Some(ExitCode::SUCCESS));
    }
    Ok(None)
}

fn report(health: &Health) -> String {
    let list = |what: &str, files: &[PathBuf]| {
        files.iter().map(|file| format!("{what}: {}\n", file.display())).collect::<String>()
    };
    let end = match health.changed.len() + health.missing.len() {
        0 => "all as they were installed".to_owned(),
        n => format!("{n} not as installed: install gse again"),
    };
    format!(
        "{}{}{}{} files, {end}",
        list("changed", &health.changed),
        list("missing", &health.missing),
        list("configuration, edited", &health.edited),
        health.files
    )
}
