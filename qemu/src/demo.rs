//! The whole way once: from an empty disk to a login, and again with no server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use gse_qemu::{Disk, Exit, Lab, Machine, Timeline, fixtures, lab::slot_for, process::Broom};

use crate::{Filesystem, terminal, tree::Source};

/// An image, two filled slots, and a stage3 in between.
const SPACE: u64 = 6 << 30;

/// With emulation on a slow host; an installation of the usual tree takes a minute.
const INSTALL: Duration = Duration::from_secs(30 * 60);
const BOOT: Duration = Duration::from_secs(10 * 60);
const SHUT_DOWN: Duration = Duration::from_secs(5 * 60);

/// `gse-lab run`
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A root tree of your own, with a login on ttyS0, instead of a small Debian
    #[arg(long, value_name = "DIR", conflicts_with = "stage3")]
    tree: Option<PathBuf>,
    /// A stage3 tarball
    #[arg(long, value_name = "TARBALL")]
    stage3: Option<PathBuf>,
    /// What the slots are formatted with
    #[arg(long, value_name = "TYPE", default_value = "btrfs")]
    filesystem: Filesystem,
    /// Leave the second machine running, with this terminal as its console
    #[arg(long)]
    console: bool,
    /// Keep the lab's files, disk included
    #[arg(long)]
    keep: bool,
}

/// Runs the lab, and says what happens on standard output.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "root trees with their owners can only be read and made by root: run this as root (sudo make lab)"
        );
    }
    let terminal = options.console.then(terminal::Terminal::of_stdin).transpose()?;
    let source = Source::new(options.tree.as_deref(), options.stage3.as_deref())?;
    let (dir, broom) = work_dir(options.keep)?;

    let began = Instant::now();
    let stage = |what: &str| println!("lab: {:6.1} s  {what}", began.elapsed().as_secs_f32());
    stage("the kernel and the root tree");
    let kernel = fixtures::kernel(fixtures::Flavour::Cloud)?;
    let tree = source.prepare(&dir)?;

    stage("keys, configuration and server");
    let mut lab = Lab::new(&dir, kernel, slot_for(&tree)?, options.filesystem.0)?;
    stage(&format!("a signed image of {}", tree.display()));
    lab.publish(&tree, "1")?;
    lab.publish_config()?;
    stage("the controller");
    lab.build_controller()?;

    let disk = lab.blank_disk(&dir.join("disk.img"))?;
    stage("the first boot, from an empty disk");
    let first = boot_and_shut_down(&lab, &disk, INSTALL)?;

    if let Some(terminal) = terminal {
        stage("the second boot, with this terminal as the console");
        return interact(&lab, &disk, &terminal);
    }
    lab.stop_server();
    stage("the second boot, without a server");
    let second = boot_and_shut_down(&lab, &disk, BOOT)?;

    println!("\nFirst boot: the blank machine\n\n{first}\nSecond boot: no server\n\n{second}");
    match broom {
        Some(_) => println!("The lab works."),
        None => println!("The lab works. Its files are in {}", dir.display()),
    }
    Ok(())
}

/// A directory for the lab's files that goes when this process does, unless it is to be kept.
fn work_dir(keep: bool) -> Result<(PathBuf, Option<Broom>)> {
    let parent = fixtures::repository().join("lab");
    fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
    check_space(&parent)?;
    let dir = tempfile::Builder::new().prefix("run-").tempdir_in(&parent);
    let dir = dir.with_context(|| format!("creating a directory in {}", parent.display()))?.keep();
    let broom = if keep { None } else { Some(Broom::new(&dir)?) };
    Ok((dir, broom))
}

fn check_space(dir: &Path) -> Result<()> {
    let stat = rustix::fs::statvfs(dir).map_err(io::Error::from);
    let stat = stat.with_context(|| format!("looking at the space in {}", dir.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < SPACE {
        bail!(
            "{} has {} MiB free, and the lab wants {} MiB: make room there",
            dir.display(),
            free >> 20,
            SPACE >> 20
        );
    }
    Ok(())
}

/// Boots the machine, waits for its login, and asks it to shut down.
fn boot_and_shut_down(lab: &Lab, disk: &Disk, timeout: Duration) -> Result<Timeline> {
    let machine = lab.machine().disk(disk.clone()).start()?;
    machine.console.mirror(io::stdout());
    machine.console.expect(" login:", timeout)?;
    // Any system understands this, whoever may log in on it.
    machine.ctrl_alt_del()?;
    ended_well(&machine, SHUT_DOWN)?;
    println!();
    Ok(Timeline::of(&machine.console.lines()))
}

fn ended_well(machine: &Machine, timeout: Duration) -> Result<()> {
    match machine.wait_exit(timeout)? {
        Exit::Failed(why) => bail!("QEMU failed: {why}"),
        Exit::PowerCut => bail!("QEMU was killed"),
        Exit::Reset if machine.console.text().contains("Kernel panic") => {
            bail!("the machine's kernel panicked; its last lines:\n{}", machine.console.tail())
        }
        Exit::Shutdown | Exit::Reset => Ok(()),
    }
}

/// Boots the machine for a person, until it or the person ends it.
fn interact(lab: &Lab, disk: &Disk, terminal: &terminal::Terminal) -> Result<()> {
    println!("{}", terminal::HELP);
    let machine = lab.machine().disk(disk.clone()).start()?;
    terminal.attach(machine)
}
