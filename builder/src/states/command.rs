//! From the command line to states.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{Error, Run, State, States, Wish, arguments::without, save, warp};
use crate::{
    cli::{Cli, written_out},
    commands::{created, print_json, print_line},
    config_d,
};

/// `--time-state`, `--time-warp`, `--edit`; none if the command line has none of them.
///
/// # Errors
/// Those of what was asked for.
pub fn command(
    cli: &Cli,
    arguments: impl IntoIterator<Item = OsString>,
) -> anyhow::Result<Option<ExitCode>> {
    // What gse starts itself has the arguments of the run that it belongs to.
    if cli.inside || cli.step.is_some() {
        return Ok(None);
    }
    let states = States::of(&cli.local)?;
    if let Some(wanted) = &cli.states.time_warp {
        return Err(warp::warp(&states, wanted)?).context("starting gse again");
    }
    if let Some(wanted) = &cli.states.edit {
        let name = warp::edit(&states, wanted)?;
        print_line(&format!("the state {name} is changed"))?;
        return Ok(Some(ExitCode::SUCCESS));
    }
    match cli.states.wish() {
        None => return Ok(None),
        Some(Wish::List) => list(cli, &states)?,
        Some(Wish::Delete(wanted)) => {
            print_line(&format!("deleted the state {}", states.delete(&wanted)?))?;
        }
        Some(Wish::Save(name)) => {
            save(&states, &name, &run(cli, arguments)?)?;
            return Err(warp::warp(&states, &name)?).context("starting gse again");
        }
    }
    Ok(Some(ExitCode::SUCCESS))
}

fn run(cli: &Cli, arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Run> {
    let text = |argument: OsString| argument.into_string().map_err(Error::Argument);
    let arguments: Vec<String> =
        written_out(arguments).skip(1).map(text).collect::<Result<_, _>>()?;
    let named = [&cli.publish_config, &cli.check_config].into_iter().flatten().flatten();
    let config = cli.config.iter().chain(named).next();
    Ok(Run {
        arguments: without(&arguments, &["--time-state"]),
        directory: env::current_dir().context("finding the current directory")?,
        config: config_d::find(config.map(PathBuf::as_path)).ok(),
        scripts: cli.sdir.clone(),
        images: cli.kernel.iter().chain(&cli.initrd).cloned().collect(),
        now: created()?,
        epoch: created()?,
    })
}

fn list(cli: &Cli, states: &States) -> anyhow::Result<()> {
    let all = states.list()?;
    if cli.json {
        let rows: Vec<_> = all.iter().enumerate().map(row).collect();
        return print_json(&rows);
    }
    if all.is_empty() {
        return print_line("no run is saved yet: --time-state=NAME beside other flags saves one");
    }
    let lines = all.iter().enumerate().map(|(i, (name, state))| line(i + 1, name, state));
    print_line(&lines.collect::<Vec<_>>().join("\n"))
}

fn row((i, (name, state)): (usize, &(String, State))) -> serde_json::Value {
    serde_json::json!({
        "number": i + 1, "name": name, "saved": state.saved, "gse": state.gse,
        "directory": state.directory, "arguments": state.arguments, "files": state.files.len(),
    })
}

fn line(number: usize, name: &str, state: &State) -> String {
    let place = |path: &Path| path.display().to_string();
    format!(
        "{number:>3}  {name}: gse {}\n     {} files of gse {}, started in {}",
        state.line(),
        state.files.len(),
        state.gse,
        place(&state.directory)
    )
}
