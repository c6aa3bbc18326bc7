//! From the command line and the environment to [`Options`](super::Options).

use std::{
    env, io,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;

use super::{Error, Options, Output, build};
use crate::cli::Cli;

/// `gse --build-controller`: builds the image and says what is in it.
///
/// # Errors
/// Those of [`build`], and those of writing to the terminal.
pub fn command(cli: &Cli) -> anyhow::Result<()> {
    let options = Options {
        modules: cli.build_controller.clone().flatten(),
        config: cli.config.clone(),
        controller: match &cli.controller {
            Some(path) => path.clone(),
            None => controller(env::var_os("GSE_CONTROLLER").map(PathBuf::from))?,
        },
        tools: tools()?,
        drivers: cli.drivers.clone(),
        output: match &cli.output {
            Some(file) => Output::File(file.clone()),
            None => Output::Dist(cli.dist.clone()),
        },
        force: cli.force,
        time: time(env::var("SOURCE_DATE_EPOCH").ok())?,
    };
    let report = build(&options)?;
    let mut out = io::stdout().lock();
    if cli.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        io::Write::write_all(&mut out, b"\n")?;
    } else {
        io::Write::write_all(&mut out, report.to_string().as_bytes())?;
    }
    Ok(())
}

/// The controller that `$GSE_CONTROLLER` names, else the one beside this program, as in a build, or in
/// `lib64/gse` beside the `bin` that this program is in, as installed.
fn controller(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match named {
        Some(path) => Ok(path),
        None => {
            let (beside, installed) = places("gse-controller")?;
            Ok(installed.filter(|path| !beside.exists() && path.exists()).unwrap_or(beside))
        }
    }
}

/// The directory of static filesystem tools, if there is one, in the same places.
fn tools() -> anyhow::Result<Option<PathBuf>> {
    let (beside, installed) = places("tools")?;
    Ok([Some(beside), installed].into_iter().flatten().find(|path| path.is_dir()))
}

/// Where what belongs to this program may be: beside it, as in a build, and as installed.
fn places(name: &str) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
    let own = env::current_exe().context("finding the directory that gse is in")?;
    let installed = own.ancestors().nth(2).map(|p| p.join("lib64/gse").join(name));
    Ok((own.with_file_name(name), installed))
}

/// Seconds since 1970: now, or as <https://reproducible-builds.org/specs/source-date-epoch/> has it.
fn time(epoch: Option<String>) -> Result<u32, Error> {
    match epoch {
        Some(value) => value.trim().parse().map_err(|_| Error::Epoch { value }),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Ok(u32::try_from(now.as_secs()).unwrap_or(u32::MAX))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_source_date_epoch() {
        assert_eq!(time(Some("1700000000".to_owned())).unwrap(), 1_700_000_000);
        assert!(time(None).unwrap() > 1_700_000_000);
        for wrong in ["", "yesterday", "-1", "99999999999"] {
            let error = time(Some(wrong.to_owned())).unwrap_err().to_string();
            assert!(error.contains("SOURCE_DATE_EPOCH"), "{error}");
        }
    }
}
