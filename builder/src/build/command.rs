//! From the command line to [`Options`].

use std::{
    env,
    io::{Write as _, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{
    Base, Earlier, Options, Publish,
    hook::HookSet,
    inside,
    log::Mode,
    namespace::{End, die_with_parent, run_inside},
    places::Places,
    plan::Wishes,
    run::ended,
    run_build,
    scripts::Scripts,
};
use crate::{
    cli::{Auto, Cli, Mark, Mistake},
    commands::{created, epoch},
    config_d, keys,
};

/// Tells this program that it is shut in.
pub(super) const INSIDE: &str = "--inside";
/// Tells it that it is to do one step in the tree.
pub(super) const STEP: &str = "--step";

/// `gse --base=…`
///
/// # Errors
/// Those of the build, and of flags that do not go together.
pub fn command(cli: &Cli, base: Base) -> anyhow::Result<ExitCode> {
    let options = options(cli, base)?;
    if let Some(step) = &cli.step {
        let places = Places::make(&options.local, base.name())
            .with_context(|| format!("looking into {}", options.local.display()))?;
        inside::work(&options, &places, step)?;
        return Ok(ExitCode::SUCCESS);
    }
    if cli.inside {
        die_with_parent()?;
        let report = run_build(&options)?;
        let mut text = report.to_string();
        if options.publish.is_none() {
            let tree = report.tree.display();
            text.push_str(&format!("\nto publish it: gse --archive={tree} --version=V"));
        }
        writeln!(stdout(), "{text}").context("writing the answer to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = match run_inside(INSIDE)? {
        End::Exited(status) => status,
        End::Interrupted(signal) => {
            // Below the line in which the terminal shows ^C.
            eprintln!("\ngse: interrupted; the same command goes on at the step where it was");
            return Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)));
        }
    };
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        // It has said why.
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        None => anyhow::bail!("the build {}; the same command goes on with it", ended(status)),
    }
}

fn options(cli: &Cli, base: Base) -> anyhow::Result<Options> {
    let enforce = HookSet::parse(&cli.enforce)?;
    let scripts = match (&cli.sdir, &cli.r#do, &cli.around) {
        (Some(folder), Some(lists), Some(places)) => Scripts::load(folder, lists, places)?,
        // clap asks for all three.
        _ => Scripts::default(),
    };
    let earlier = match (cli.keep, cli.force_new || enforce.has_all()) {
        (true, _) => Earlier::Keep,
        (false, true) => Earlier::Forget,
        (false, false) => Earlier::Continue,
    };
    let mode = match (cli.verbose, cli.quiet) {
        (true, _) => Mode::Verbose,
        (_, true) => Mode::Quiet,
        _ => Mode::Normal,
    };
    if mode == Mode::Verbose && cli.auto == Some(Auto::Yes) {
        let text = "--verbose and --auto=yes exclude each other: questions would be lost among what --verbose prints";
        return Err(Mistake(text.to_owned()).into());
    }
    let no_kernel = cli.no_kernel || cli.build_minimal;
    let no_initramfs = cli.no_initramfs || no_kernel;
    Ok(Options {
        base,
        config: config(cli)?,
        local: cli.local.clone(),
        questions: cli.auto != Some(Auto::No) && mode != Mode::Verbose,
        wishes: Wishes {
            base,
            seed: false,
            lawful_good: HookSet::parse(&cli.lawful_good)?,
            enforce,
            scripts,
            rebuild: false,
            snapshot: true,
            publish: cli.version.is_some(),
            kernel: !no_kernel,
            initrd: !no_initramfs,
        },
        kernel: cli.kernel.as_deref().map(image).transpose()?,
        initrd: cli.initrd.as_deref().map(image).transpose()?,
        controller: cli.controller.clone(),
        now: created()?,
        minimal: cli.build_minimal,
        publish: cli.version.as_deref().map(|version| publish(cli, version)).transpose()?,
        earlier,
        fetch_new: cli.fetch_new,
        distcc: cli.distcc,
        ccache: cli.ccache,
        mode,
        on_failure: cli.on_failure,
    })
}

/// A version is what a system is published under, so naming one asks for that.
fn publish(cli: &Cli, version: &str) -> anyhow::Result<Publish> {
    let older_keys = cli.r#pub.iter().map(|p| keys::load_public(p)).collect::<Result<_, _>>()?;
    Ok(Publish {
        name: cli.name.clone(),
        version: version.to_owned(),
        dist: cli.dist.clone(),
        key: cli.key.clone(),
        older_keys,
        level: cli.level,
        allow_downgrade: cli.allow_downgrade,
        patches: cli.patches,
        latest: cli.mark.map(|mark| mark == Mark::Yes),
        created: created()?,
        until: epoch()?,
    })
}

/// A file that is ready, by a path that holds in the new system's build too.
fn image(path: &Path) -> anyhow::Result<PathBuf> {
    let found = path.canonicalize().with_context(|| format!("looking for {}", path.display()))?;
    anyhow::ensure!(found.is_file(), "{} is no file", path.display());
    Ok(found)
}

fn config(cli: &Cli) -> anyhow::Result<PathBuf> {
    let here = env::current_dir().context("finding the current directory")?;
    Ok(here.join(config_d::find(cli.config.as_deref())?))
}
