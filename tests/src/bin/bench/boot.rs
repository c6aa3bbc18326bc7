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
/// What an image of dracut's is told that has the controller in it.
const HOSTED: &str = "root=gse";
const DHCP: &str = "rd.neednet=1 ip=dhcp";

/// With emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(600);

struct Bench<'s> {
    scratch: &'s Scratch,
    lab: Lab,
    installed: Disk,
    dracut: PathBuf,
    /// dracut's image with the controller in it.
    hosted: PathBuf,
}

pub(crate) fn measure(scratch: &Scratch, runs: usize) -> Result<Section> {
    let bench = Bench::new(scratch)?;
    let card = |spec: Spec| spec.nic(Nic::default());
    let ours = || Spec::new(&bench.lab.kernel().image, bench.lab.initramfs()).append(VERBOSE);
    let theirs =
        || Spec::new(&bench.lab.kernel().image, &bench.dracut).append(VERBOSE).append(ROOT);

    let hosted =
        || Spec::new(&bench.lab.kernel().image, &bench.hosted).append(VERBOSE).append(HOSTED);

    let [alone, alone_dracut, alone_hosted] =
        bench.by_turns([ours(), theirs(), hosted()], runs, "without a network")?;
    let online = [card(ours()), card(theirs()).append(DHCP), card(hosted())];
    let [online, online_dracut, online_hosted] = bench.by_turns(online, runs, "with a network")?;
    let row = |what, ours, theirs, name, target| {
        Row::new(what, Quantity::Seconds(ours), target).beside(name, Quantity::Seconds(theirs))
    };
    let most = |part: f64| Target::AtMost(1.0 / part);
    let rows = vec![
        row("boot without a network", alone, alone_dracut, "dracut", most(10.0)),
        row("boot without a network", alone, alone_hosted, "gse, in dracut's image", Target::None),
        row(
            "boot with DHCP and version check",
            online,
            online_dracut,
            "dracut, DHCP alone",
            most(5.0),
        ),
        row(
            "boot with DHCP and version check",
            online,
            online_hosted,
            "gse, in dracut's image",
            Target::None,
        ),
    ];
    let commands = [
        ("dracut's image", DRACUT.to_owned()),
        ("dracut's kernel options without a network", ROOT.to_owned()),
        ("and with one", format!("{ROOT} {DHCP}")),
        ("dracut's image with gse in it", GSE_DRACUT.to_owned()),
        ("its kernel options", HOSTED.to_owned()),
    ];
    Ok(Section { name: "boot", rows, commands: commands.map(|(n, l)| (n.to_owned(), l)).into() })
}

impl<'s> Bench<'s> {
    /// Installs a machine, which both images boot then.
    fn new(scratch: &'s Scratch) -> Result<Self> {
        say("a machine that boots: installing it");
        let tree = fixtures::tree()?;
        let kernel = fixtures::kernel(Flavour::Cloud)?;
        let lab = Lab::new(&scratch.path("lab"), kernel, slot_for(&tree)?, Filesystem::default())?;
        lab.publish(&tree, "1")?;
        lab.publish_config()?;
        lab.build_controller()?;
        let installed = lab.blank_disk(&scratch.path("installed.img"))?;
        let machine = lab.machine().disk(installed.clone()).start()?;
        machine.console.expect(" login:", LIMIT)?;
        machine.ctrl_alt_del()?;
        match machine.wait_exit(LIMIT)? {
            Exit::Shutdown => {}
            other => bail!("the installed machine did not shut down: {other:?}"),
        }
        say("a machine that boots: dracut's image");
        let dracut = scratch.path("dracut.img");
        inside(Command::new(DRACUT), lab.kernel())?.with("OUT", &dracut).run(scratch.dir())?;
        let hosted = scratch.path("hosted.img");
        inside(Command::new(GSE_DRACUT), lab.kernel())?
            .with("GSE", program("gse")?)
            .with("CONFIG", lab.config())
            .with("OUT", &hosted)
            .run(scratch.dir())?;
        Ok(Self { scratch, lab, installed, dracut, hosted })
    }

    /// Boots these machines by turns, and gives the median of each in seconds.
    fn by_turns(&self, specs: [Spec; 3], runs: usize, what: &str) -> Result<[f64; 3]> {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..runs {
            for (spec, times) in specs.iter().zip(&mut times) {
                say(&format!("a machine that boots {what}"));
                times.push(self.boot(spec.clone())?.as_secs_f64());
            }
        }
        let [ours, theirs, hosted] = times;
        Ok([median(ours)?, median(theirs)?, median(hosted)?])
    }

    /// Boots from a fresh copy of the disk: the same start for everyone.
    fn boot(&self, spec: Spec) -> Result<Duration> {
        let copy = self.scratch.path("copy.img");
        let mut cp = process::command("cp");
        cp.args(["--reflink=auto", "--sparse=always"]).arg(&self.installed.image).arg(&copy);
        process::output(cp)?;
        let machine = spec.disk(Disk::new(copy)).start()?;
        let start = machine.console.expect(INIT, LIMIT)?;
        let end = machine.console.expect(SYSTEM, LIMIT)?;
        machine.cut_power()?;
        Ok(end.saturating_sub(start))
    }
}
