//! What a lab is made of that is not built here: a stock kernel and a root tree, both kept in a cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::{
    error::{Doing, Error, Result},
    process,
};

/// Which of the distribution's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// With the drivers of virtual machines only.
    Cloud,
    /// With all drivers.
    Generic,
}

/// A kernel and its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel's image.
    pub image: PathBuf,
    /// Such as `/…/lib/modules/6.1.0-56-cloud-amd64`.
    pub modules: PathBuf,
}

/// The repository that this was built from.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Debian's kernel, fetched if it is not in the cache.
pub fn kernel(flavour: Flavour) -> Result<Kernel> {
    let argument = match flavour {
        Flavour::Cloud => "cloud",
        Flavour::Generic => "generic",
    };
    Kernel::find(&script("fixture-kernel", argument)?)
}

/// A small Debian with OpenRC, made if it is not in the cache. root's password is `gse`.
pub fn tree() -> Result<PathBuf> {
    script("fixture-tree", "debian")
}

/// A small Debian with systemd, made if it is not in the cache. root's password is `gse`.
pub fn systemd_tree() -> Result<PathBuf> {
    script("fixture-tree", "systemd")
}

/// The one with OpenRC and what a programming course uses: 1.7 GB, for measurements.
pub fn large_tree() -> Result<PathBuf> {
    script("fixture-tree", "large")
}

/// A Debian as it was released, and the same with its security updates and a new kernel: 2.1 GB each, for measurements.
pub fn pair() -> Result<(PathBuf, PathBuf)> {
    let script = repository().join("scripts/fixture-pair");
    let mut command = process::command(&script);
    command.stdin(Stdio::null());
    let text = process::output(command)?;
    let mut lines = text.lines().map(PathBuf::from);
    let pair = lines.next().zip(lines.next());
    pair.ok_or_else(|| Error::Impossible(format!("{} did not name two trees", script.display())))
}

/// A stand-in for Gentoo's stage3 and a mirror that has it, made if it is not in the cache.
pub fn stage3() -> Result<PathBuf> {
    script("fixture-stage3", "gentoo")
}

/// dracut-ng, unpacked and not installed, fetched if it is not in the cache: a directory that has its `usr`.
pub fn dracut_ng() -> Result<PathBuf> {
    script("fixture-dracut-ng", "trixie")
}

impl Kernel {
    /// The one kernel in a directory that has `boot/` and `lib/modules/`.
    pub fn find(dir: &Path) -> Result<Self> {
        Ok(Self {
            image: only(&dir.join("boot"), "vmlinuz-")?,
            modules: only(&dir.join("lib/modules"), "")?,
        })
    }

    /// The files of a module and of those that it needs, in the order in which they are to be loaded; none
    /// for what is built into the kernel.
    pub fn module(&self, name: &str) -> Result<Vec<PathBuf>> {
        let read = |list: &str| {
            let list = self.modules.join(list);
            fs::read_to_string(&list).doing(|| format!("reading {}", list.display()))
        };
        // modules.dep: `FILE: FILES`, the file that has to be there first last (modules.dep(5)).
        for line in read("modules.dep")?.lines() {
            let (file, needs) = line.split_once(':').unwrap_or((line, ""));
            if is_module(file, name) {
                let files = std::iter::once(file).chain(needs.split_whitespace());
                return Ok(files.map(|f| self.modules.join(f)).rev().collect());
            }
        }
        if read("modules.builtin")?.lines().any(|file| is_module(file, name)) {
            return Ok(Vec::new());
        }
        Err(Error::Impossible(format!("{} has no module {name}", self.modules.display())))
    }
}

/// Whether `kernel/drivers/block/virtio_blk.ko` is `virtio_blk`; `-` and `_` are the same in these names.
fn is_module(file: &str, name: &str) -> bool {
    let stem = file.rsplit('/').next().and_then(|f| f.split('.').next()).unwrap_or_default();
    stem.replace('-', "_") == name.replace('-', "_")
}

fn only(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).doing(|| format!("reading {}", dir.display()))?;
    let paths = entries.filter_map(|e| e.ok().map(|e| e.path()));
    let fits = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    let found: Vec<PathBuf> = paths.filter(fits).collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::Missing {
            path: dir.join(format!("{prefix}*")),
            advice: "remove the directory and let scripts/fixture-kernel fetch it again".to_owned(),
        }),
        _ => Err(Error::Impossible(format!("{} holds more than one: {found:?}", dir.display()))),
    }
}

/// Runs a script, which prints a directory.
fn script(name: &str, argument: &str) -> Result<PathBuf> {
    let mut command = process::command(repository().join("scripts").join(name));
    command.arg(argument).stdin(Stdio::null());
    Ok(PathBuf::from(process::output(command)?.trim_end()))
}
