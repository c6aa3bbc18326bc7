//! Booting an installed machine in QEMU: from the kernel's start of `/init` to the first words of the system's own
//! init, beside a dracut image that boots the same disk with the same kernel.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use gse_qemu::{
    Disk, Exit, Filesystem, Lab, Nic, Spec,
    fixtures::{self, Flavour},
    lab::{program, slot_for},
    process,
};

use crate::{
    initramfs::{DRACUT, GSE_DRACUT, inside},
    measure::{Command, median, say},
    scratch::Scratch,
    table::{Quantity, Row, Section, Target},
};

/// The kernel's informational messages are shown, because one of them is the start of `/init`.
const VERBOSE: &str = "loglevel=7";
const INIT: &str = "Run /init as init process";
/// sysvinit's greeting.
const SYSTEM: &str = "INIT: version";

/// What dracut is told: where the system is, read-only as ours is. SYSFS is the second partition.
const ROOT: &str = "root=/dev/vda2 rootfstype=btrfs rootflags=subvol=@ ro";
const EXT4_ROOT: &str = "root=/dev/vda2 rootfstype=ext4 ro";
/// What an image of dracut's is told that has the controller in it.
const HOSTED: &str = "root=gse";
const DHCP: &str = "rd.neednet=1 ip=dhcp";

/// With emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(600);

/// A machine that was installed, and has the backup that its second start makes.
struct Installed {
    lab: Lab,
    disk: Disk,
}

/// What the same machine boots instead of its own initramfs.
struct Images {
    dracut: PathBuf,
    /// dracut's image with the controller in it.
    hosted: PathBuf,
}

pub(crate) fn measure(scratch: &Scratch, runs: usize) -> Result<Section> {
    let btrfs = Installed::new(scratch, Filesystem::Btrfs)?;
    let images = Images::new(scratch, &btrfs.lab)?;
    let ext4 = Installed::new(scratch, Filesystem::Ext4)?;
    let image = &btrfs.lab.kernel().image;
    let spec = |initramfs: PathBuf| Spec::new(image, initramfs).append(VERBOSE);
    let ours = || spec(btrfs.lab.initramfs());
    let theirs = || spec(images.dracut.clone()).append(ROOT);
    let hosted = || spec(images.hosted.clone()).append(HOSTED);
    let card = |spec: Spec| spec.nic(Nic::default());

    let what = "without a network";
    let [alone, alone_dracut, alone_hosted] =
        by_turns(scratch, &btrfs.disk, [ours(), theirs(), hosted()], runs, what)?;
    let on_ext4 = [spec(ext4.lab.initramfs()), spec(images.dracut.clone()).append(EXT4_ROOT)];
    let [on_ext4, on_ext4_dracut] = by_turns(scratch, &ext4.disk, on_ext4, runs, what)?;
    let online = [card(ours()), card(theirs()).append(DHCP), card(hosted())];
    let [online, online_dracut, online_hosted] =
        by_turns(scratch, &btrfs.disk, online, runs, "with a network")?;
    let row = |what, ours, theirs, name, target| {
        Row::new(what, Quantity::Seconds(ours), target).beside(name, Quantity::Seconds(theirs))
    };
    let most = |part: f64| Target::AtMost(1.0 / part);
    let (without, with) =
        ("boot without a network, btrfs", "boot with DHCP and version check, btrfs");
    let rows = vec![
        row(without, alone, alone_dracut, "dracut", most(10.0)),
        row("boot without a network, ext4", on_ext4, on_ext4_dracut, "dracut", most(10.0)),
        row(without, alone, alone_hosted, "gse, in dracut's image", Target::None),
        row(with, online, online_dracut, "dracut, DHCP alone", most(5.0)),
        row(with, online, online_hosted, "gse, in dracut's image", Target::None),
    ];
    let commands = [
        ("dracut's image", DRACUT.to_owned()),
        ("dracut's kernel options without a network", ROOT.to_owned()),
        ("with ext4", EXT4_ROOT.to_owned()),
        ("and with a network", format!("{ROOT} {DHCP}")),
        ("dracut's image with gse in it", GSE_DRACUT.to_owned()),
        ("its kernel options", HOSTED.to_owned()),
    ];
    Ok(Section { name: "boot", rows, commands: commands.map(|(n, l)| (n.to_owned(), l)).into() })
}

impl Installed {
    fn new(scratch: &Scratch, filesystem: Filesystem) -> Result<Self> {
        let name = filesystem.name();
        say(&format!("a machine that boots: installing it on {name}"));
        let tree = fixtures::tree()?;
        let kernel = fixtures::kernel(Flavour::Cloud)?;
        let dir = scratch.path(&format!("lab-{name}"));
        let lab = Lab::new(&dir, kernel, slot_for(&tree)?, filesystem)?;
        lab.publish(&tree, "1")?;
        lab.publish_config()?;
        lab.build_controller()?;
        let disk = lab.blank_disk(&scratch.path(&format!("installed-{name}.img")))?;
        for _ in ["the installation", "the backup"] {
            let machine = lab.machine().disk(disk.clone()).start()?;
            machine.console.expect(" login:", LIMIT)?;
            machine.ctrl_alt_del()?;
            match machine.wait_exit(LIMIT)? {
                Exit::Shutdown => {}
                other => bail!("the installed machine did not shut down: {other:?}"),
            }
        }
        Ok(Self { lab, disk })
    }
}

impl Images {
    fn new(scratch: &Scratch, lab: &Lab) -> Result<Self> {
        say("a machine that boots: dracut's image");
        let dracut = scratch.path("dracut.img");
        inside(Command::new(DRACUT), lab.kernel())?.with("OUT", &dracut).run(scratch.dir())?;
        let hosted = scratch.path("hosted.img");
        inside(Command::new(GSE_DRACUT), lab.kernel())?
            .with("GSE", program("gse")?)
            .with("CONFIG", lab.config())
            .with("OUT", &hosted)
            .run(scratch.dir())?;
        Ok(Self { dracut, hosted })
    }
}

/// Boots these machines by turns, and gives the median of each in seconds.
fn by_turns<const N: usize>(
    scratch: &Scratch,
    installed: &Disk,
    specs: [Spec; N],
    runs: usize,
    what: &str,
) -> Result<[f64; N]> {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..runs {
        for (spec, times) in specs.iter().zip(&mut times) {
            say(&format!("a machine that boots {what}"));
            times.push(boot(scratch, installed, spec.clone())?.as_secs_f64());
        }
    }
    let mut medians = [0.0; N];
    for (median, times) in medians.iter_mut().zip(times) {
        *median = self::median(times)?;
    }
    Ok(medians)
}

/// Boots from a fresh copy of the disk: the same start for everyone.
fn boot(scratch: &Scratch, installed: &Disk, spec: Spec) -> Result<Duration> {
    let copy = scratch.path("copy.img");
    let mut cp = process::command("cp");
    cp.args(["--reflink=auto", "--sparse=always"]).arg(&installed.image).arg(&copy);
    process::output(cp)?;
    let machine = spec.disk(Disk::new(copy)).start()?;
    let start = machine.console.expect(INIT, LIMIT)?;
    let end = machine.console.expect(SYSTEM, LIMIT)?;
    machine.cut_power()?;
    Ok(end.saturating_sub(start))
}
