//! Generation of an initramfs for a stock kernel, beside dracut, initramfs-tools and tiny-initramfs.
//!
//! The peers look for modules in `/lib/modules`, so each runs in a mount namespace where that has the stock
//! kernel's. "The same drivers" is a module directory that has no others, and a list of them all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use gse_qemu::{
    Filesystem, Lab,
    fixtures::{self, Flavour, Kernel},
    lab::program,
    process,
};
use serde::Deserialize;

use crate::{
    measure::{Command, by_turns, say},
    scratch::Scratch,
    table::{Quantity, Row, Section, Target},
};

const OURS: &str = "\"$GSE\" --build-controller=\"$MODULES\" --config=\"$CONFIG\" --output=\"$OUT\" --force >/dev/null";

/// What a lab machine that boots over a network and makes its own filesystems has to have, of dracut.
macro_rules! dracut {
    ($more:literal) => {
        concat!(
            "dracut --force --no-hostonly --no-hostonly-cmdline --add network-legacy",
            " --install \"btrfs mkfs.btrfs mke2fs mkfs.ext4 e2fsck\"",
            $more,
            " \"$OUT\" \"$KVER\" >/dev/null"
        )
    };
}
pub(crate) const DRACUT: &str = dracut!("");
const DRACUT_SAME: &str = dracut!(" --drivers \"$DRIVERS\"");
const DRACUT_ZSTD: &str =
    dracut!(" --drivers \"$DRIVERS\" --zstd --omit \"crypt dm nvdimm systemd\"");
/// The other image with the controller in it.
pub(crate) const GSE_DRACUT: &str = "\"$GSE\" --build-controller=\"$MODULES\" --config=\"$CONFIG\" --image=dracut --output=\"$OUT\" --force >/dev/null";
const MKINITRAMFS: &str = "mkinitramfs -d \"$CONF\" -o \"$OUT\" \"$KVER\"";
const MKTIRFS: &str = "mktirfs -o \"$OUT\" -m no --include-modules=\"${DRIVERS// /,}\" \"$KVER\"";

const SLOT: u64 = 2 << 30;

/// What `gse --build-controller --json` says.
#[derive(Deserialize)]
struct Report {
    modules: Vec<String>,
}

/// A generator, what it works on, and what is promised in comparison with it.
struct Peer {
    name: &'static str,
    line: &'static str,
    kernel: Kernel,
    time: Target,
    size: Target,
}

pub(crate) fn measure(scratch: &Scratch, runs: usize) -> Result<Section> {
    let kernel = fixtures::kernel(Flavour::Generic)?;
    let lab = Lab::new(&scratch.path("lab"), kernel, SLOT, Filesystem::default())?;
    let kernel = lab.kernel();
    let drivers = drivers(&lab)?;
    let same = only(kernel, &drivers, &scratch.path("same"))?;
    let drivers = drivers.join(" ");
    let conf = initramfs_tools(&scratch.path("initramfs-tools"), &drivers)?;

    let out = scratch.path("ours.img");
    let ours = Command::new(OURS)
        .with("GSE", program("gse")?)
        .with("MODULES", &kernel.modules)
        .with("CONFIG", lab.config())
        .with("OUT", &out);
    say("an initramfs: gse");
    // The others take so long that they are run once; so this one has to be quick more than once.
    let [ours] = by_turns(&[ours], 2 * runs + 1, scratch.dir(), |_| Ok(()))?[..] else {
        bail!("one command gave no one result");
    };
    let (time, size) = (Quantity::Seconds(ours.seconds), Quantity::Bytes(size_of(&out)?));

    let mut rows = Vec::new();
    let mut commands = vec![("gse".to_owned(), OURS.to_owned())];
    for peer in peers(kernel, &same) {
        say(&format!("an initramfs: {}", peer.name));
        let out = scratch.path("peer.img");
        let command = inside(Command::new(peer.line), &peer.kernel)?
            .with("GSE", program("gse")?)
            .with("CONFIG", lab.config())
            .with("DRIVERS", &drivers)
            .with("CONF", &conf)
            .with("OUT", &out);
        let seconds = Quantity::Seconds(command.run(scratch.dir())?.seconds);
        let bytes = Quantity::Bytes(size_of(&out)?);
        rows.push(Row::new("time", time, peer.time).beside(peer.name, seconds));
        rows.push(Row::new("size", size, peer.size).beside(peer.name, bytes));
        commands.push((peer.name.to_owned(), peer.line.to_owned()));
    }
    Ok(Section { name: "initramfs", rows, commands })
}

fn peers(kernel: &Kernel, same: &Kernel) -> [Peer; 6] {
    let quicker = Target::AtMost(1.0);
    let peer = |name, line, kernel: &Kernel, time, size| Peer {
        name,
        line,
        kernel: kernel.clone(),
        time,
        size,
    };
    let (time, size) = (Target::AtMost(1.0 / 50.0), Target::AtMost(1.0 / 3.0));
    [
        peer("gse, as dracut's image", GSE_DRACUT, kernel, Target::None, Target::None),
        peer("dracut, same drivers", DRACUT_SAME, same, time, size),
        peer("dracut, its own choice of drivers", DRACUT, kernel, time, size),
        peer(
            "dracut, same drivers, as little as will do",
            DRACUT_ZSTD,
            same,
            quicker,
            Target::None,
        ),
        peer("mkinitramfs, same drivers", MKINITRAMFS, same, quicker, Target::None),
        peer("tiny-initramfs, same drivers", MKTIRFS, same, quicker, Target::None),
    ]
}

/// The modules that `gse` takes by default.
fn drivers(lab: &Lab) -> Result<Vec<String>> {
    let mut gse = process::command(program("gse")?);
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    gse.arg(option("build-controller", &lab.kernel().modules))
        .arg(option("config", &lab.config()))
        .arg(option("output", &lab.initramfs()))
        .arg("--json");
    let report = process::output(gse)?;
    let report: Report = serde_json::from_str(&report).context("reading what gse says")?;
    Ok(report.modules)
}

/// A kernel that has these modules and no others, in `root`.
fn only(kernel: &Kernel, names: &[String], root: &Path) -> Result<Kernel> {
    let release = kernel.modules.file_name().context("a kernel without a name")?;
    let modules = root.join("lib/modules").join(release);
    for name in names {
        for file in kernel.module(name)? {
            copy(&kernel.modules, &file, &modules)?;
        }
    }
    for index in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        copy(&kernel.modules, &kernel.modules.join(index), &modules)?;
    }
    let boot = kernel.image.parent().context("a kernel without a directory")?;
    for file in fs::read_dir(boot).with_context(|| format!("reading {}", boot.display()))? {
        copy(boot, &file?.path(), &root.join("boot"))?;
    }
    let mut depmod = process::command("depmod");
    depmod.arg("-b").arg(root).arg(release);
    process::output(depmod)?;
    Ok(Kernel::find(root)?)
}

/// Copies a file to the same place below another directory.
fn copy(from: &Path, file: &Path, to: &Path) -> Result<()> {
    let copying = || format!("copying {} to {}", file.display(), to.display());
    let target = to.join(file.strip_prefix(from).with_context(copying)?);
    fs::create_dir_all(target.parent().unwrap_or(to)).with_context(copying)?;
    fs::copy(file, &target).with_context(copying)?;
    Ok(())
}

/// A configuration of initramfs-tools: Debian's, but for the list of drivers.
fn initramfs_tools(dir: &Path, drivers: &str) -> Result<PathBuf> {
    let mut cp = process::command("cp");
    cp.args(["-r", "/etc/initramfs-tools"]).arg(dir);
    process::output(cp)?;
    let writing = || format!("writing into {}", dir.display());
    fs::write(dir.join("modules"), drivers.replace(' ', "\n") + "\n").with_context(writing)?;
    fs::write(dir.join("conf.d/drivers"), "MODULES=list\n").with_context(writing)?;
    Ok(dir.to_owned())
}

/// The command with this kernel in the places where a distribution's tools look for it.
pub(crate) fn inside(command: Command, kernel: &Kernel) -> Result<Command> {
    const ENTER: &str = "mkdir -p /lib/modules
        mount -t tmpfs none /lib/modules
        mkdir \"/lib/modules/$KVER\"
        mount --bind \"$MODULES\" \"/lib/modules/$KVER\"
        mount --bind \"$BOOT\" /boot
        exec \"$@\"";
    let boot = kernel.image.parent().context("a kernel without a directory")?;
    let release = kernel.modules.file_name().context("a kernel without a name")?;
    Ok(command
        .within(&["unshare", "--mount", "--", "sh", "-euc", ENTER, "sh"])
        .with("MODULES", &kernel.modules)
        .with("BOOT", boot)
        .with("KVER", release))
}

fn size_of(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).with_context(|| format!("looking at {}", file.display()))?.len())
}
