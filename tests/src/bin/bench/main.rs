//! `make bench`: GSE beside what else does the same work, in one run on one machine.
//!
//! Each part gives a table of ratios, which is printed and kept in `docs/benchmarks.md` with the command lines.
//! Absolute times are shown, and nothing is asserted of them.

mod archive;
mod binary;
mod boot;
mod clone;
mod docs;
mod fresh;
mod host;
mod initramfs;
mod install;
mod measure;
mod room;
mod scratch;
mod table;
mod update;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use gse_qemu::{fixtures, process};
use nix::sched::CloneFlags;

use scratch::Scratch;
use table::Section;

/// Measures GSE beside its peers, and writes the results into the documentation
#[derive(Debug, Parser)]
#[command(name = "gse-bench")]
struct Options {
    /// What to measure; everything if nothing is named
    parts: Vec<Part>,
    /// How often each short thing is done; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// The page whose tables are replaced
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Generation of an initramfs
    Initramfs,
    /// From the kernel's start of /init to the system's own init
    Boot,
    /// Creation of an image
    Archive,
    /// Installation of an image
    Install,
    /// A clone of an installed system
    Clone,
    /// An update to a newer version
    Update,
    /// Thirty machines that install at once
    Room,
    /// The controller's size
    Binary,
}

impl Part {
    fn measure(self, scratch: &Scratch, runs: usize) -> Result<Section> {
        match self {
            Self::Initramfs => initramfs::measure(scratch, runs),
            Self::Boot => boot::measure(scratch, runs),
            Self::Archive => archive::measure(scratch, runs),
            Self::Install => install::measure(scratch, runs),
            Self::Clone => clone::measure(scratch, runs),
            Self::Update => update::measure(scratch, runs),
            Self::Room => room::measure(scratch),
            Self::Binary => binary::measure(),
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !rustix::process::geteuid().is_root() {
        bail!(
            "root trees are read, and filesystems made, by root: run this as root (sudo make bench)"
        );
    }
    hide_mounts()?;
    let parts = if options.parts.is_empty() { Part::value_variants() } else { &options.parts };
    let page = options.page.unwrap_or_else(|| fixtures::repository().join("docs/benchmarks.md"));
    // Read before the work: a page that cannot be written would waste a quarter of an hour.
    let mut text = docs::Page::read(&page)?;
    let host = host::describe()?;
    println!("{host}\n");
    for part in parts {
        let scratch = Scratch::new()?;
        let section = part.measure(&scratch, options.runs.max(1))?;
        println!("{section}");
        text.replace(section.name, &format!("{host}\n\n{section}"))?;
        // After each part, so that one that fails does not take the others with it.
        text.write(&page)?;
    }
    println!("written to {}", page.display());
    Ok(())
}

/// Moves this process into a mount namespace of its own: nothing stays mounted, however it ends.
fn hide_mounts() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    let mut private = process::command("mount");
    private.args(["--make-rprivate", "/"]);
    process::output(private).map(drop).context("making a mount namespace")
}
