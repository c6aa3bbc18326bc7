//! From the command line and the environment to [`Options`](super::Options).

use std::{
    env, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::{
    Error, Images, Options, Output, Report, build,
    dracut::{Built, Plan, Wanted},
};
use crate::cli::Cli;

/// What was built, for programs.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    own: Option<Report>,
    dracut: Built,
}

/// `gse --build-controller`: builds the images and says what is in them.
///
/// # Errors
/// Those of [`build`] and [`Plan`], and those of writing to the terminal.
pub fn command(cli: &Cli) -> anyhow::Result<()> {
    let options = Options {
        modules: cli.build_controller.clone().flatten(),
        config: cli.config.clone(),
        controller: find_controller(cli.controller.as_deref())?,
        tools: find_tools()?,
        drivers: cli.drivers.clone(),
        output: match &cli.output {
            Some(file) => Output::File(file.clone()),
            None => Output::Dist(cli.dist.clone()),
        },
        local: cli.image.read()?,
        force: cli.force,
        time: time(env::var("SOURCE_DATE_EPOCH").ok())?,
    };
    let images = images(cli.image.image, &options.output)?;
    // All that can be wrong with one image is known before the other is begun.
    let plan = images.dracut.map(|wanted| Plan::new(&options, wanted)).transpose()?;
    let own = if images.own { Some(build(&options)?) } else { None };
    let dracut = match &plan {
        Some(plan) => {
            if plan.has_image() {
                say("dracut makes its image; that takes a while");
            }
            plan.build(&options)?
        }
        None => Built::default(),
    };
    let without = dracut.image.is_none();
    if without && images.dracut == Some(Wanted::IfInstalled) {
        say("dracut is not installed here, so there is the own image alone");
    }
    if without && !options.local.hooks.is_empty() {
        say(
            "scripts of --hook and --net run in dracut's image alone: the own image has none of them",
        );
    }
    let mut out = io::stdout().lock();
    if cli.json {
        serde_json::to_writer_pretty(&mut out, &Answer { own, dracut })?;
        io::Write::write_all(&mut out, b"\n")?;
    } else {
        let own = own.map(|own| own.to_string()).unwrap_or_default();
        io::Write::write_all(&mut out, format!("{own}{dracut}").as_bytes())?;
    }
    Ok(())
}

/// Standard output is for the answer.
fn say(line: &str) {
    // Without a standard error nobody misses it.
    let _ = io::Write::write_all(&mut io::stderr(), format!("gse: {line}\n").as_bytes());
}

/// What is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    own: bool,
    /// `None`: not even the modules, because a single file was asked for.
    dracut: Option<Wanted>,
}

fn images(asked: Option<Images>, output: &Output) -> Result<Choice, Error> {
    let single = matches!(output, Output::File(_));
    let (own, dracut) = match asked {
        None | Some(Images::Own) if single => (true, None),
        None => (true, Some(Wanted::IfInstalled)),
        Some(Images::Own) => (true, Some(Wanted::No)),
        Some(Images::Dracut) => (false, Some(Wanted::Yes)),
        Some(Images::Both) if single => return Err(Error::OneOutput),
        Some(Images::Both) => (true, Some(Wanted::Yes)),
    };
    Ok(Choice { own, dracut })
}

/// The controller that is named, by `$GSE_CONTROLLER` if not otherwise, else the one beside this program, as in a build,
/// or in `lib64/gse` beside the `bin` that this program is in, as installed.
pub(crate) fn find_controller(named: Option<&Path>) -> Result<PathBuf, Error> {
    let of_environment = || env::var_os("GSE_CONTROLLER").map(PathBuf::from);
    match named.map(Path::to_owned).or_else(of_environment) {
        Some(path) => Ok(path),
        None => {
            let (beside, installed) = places("gse-controller")?;
            Ok(installed.filter(|path| !beside.exists() && path.exists()).unwrap_or(beside))
        }
    }
}

/// The directory of static filesystem tools, if there is one, in the same places.
pub(crate) fn find_tools() -> Result<Option<PathBuf>, Error> {
    let (beside, installed) = places("tools")?;
    Ok([Some(beside), installed].into_iter().flatten().find(|path| path.is_dir()))
}

/// Where what belongs to this program may be: beside it, as in a build, and as installed.
fn places(name: &str) -> Result<(PathBuf, Option<PathBuf>), Error> {
    let own = env::current_exe()
        .map_err(Error::io("finding", Path::new("the directory that gse is in")))?;
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
    fn one_file_is_one_image() {
        let (file, dist) = (Output::File("a.img".into()), Output::Dist("dist.d".into()));
        let cases = [
            (None, &file, (true, None)),
            (Some(Images::Own), &file, (true, None)),
            (Some(Images::Dracut), &file, (false, Some(Wanted::Yes))),
            (None, &dist, (true, Some(Wanted::IfInstalled))),
            (Some(Images::Own), &dist, (true, Some(Wanted::No))),
            (Some(Images::Dracut), &dist, (false, Some(Wanted::Yes))),
            (Some(Images::Both), &dist, (true, Some(Wanted::Yes))),
        ];
        for (asked, output, (own, dracut)) in cases {
            assert_eq!(
                images(asked, output).unwrap(),
                Choice { own, dracut },
                "{asked:?} {output:?}"
            );
        }
        let error = images(Some(Images::Both), &file).unwrap_err().to_string();
        assert!(error.contains("--image=own"), "{error}");
    }

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
