//! `gse-power-on CONFIG.D DISK ANSWER`: what a machine without a network makes of this disk when it is switched
//! on, decided by the controller's own code. The disk is changed as a machine would change it. The answer
//! is JSON: a `gse_tests::cuts::Verdict`.

mod compare;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use gse_controller::{
    boot::power_on::{self, Decision},
    config,
    decide::{self, Next, NothingToBoot, Policy, Step},
    disk::{
        gpt,
        mount::{self, Access},
        plan,
        probe::{self, BlockDevice, Loops},
        slots::{Place, Slot},
        tools::Tools,
    },
    facts::{self, Offer},
    log::{Log, reason},
};
use gse_protocol::{Serial, Sha256, config::Bundle};
use gse_tests::cuts::{Outcome, Verdict};
use nix::{
    mount::{MsFlags, mount as mount_raw},
    sched::{CloneFlags, unshare},
};

const TOOLS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
const SYS: &str = "/sys";
const DEV: &str = "/dev";
/// Where sysfs has this disk alone.
const ONE: &str = "/run/one";
const WORK: &str = "/run/work";

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [config_d, disk, answer] = arguments.as_slice() else {
        bail!("usage: gse-power-on CONFIG.D DISK ANSWER");
    };
    own_mounts().context("making a mount namespace of its own")?;
    let log = Arc::new(Log::console());
    let config = config::embedded(config_d, 0)?;
    let verdict = match examine(&config, disk, &log) {
        Ok(verdict) => verdict,
        Err(e) => Verdict {
            outcome: Outcome::Rescue(reason(&e)),
            places: BTreeMap::new(),
            fallback: None,
            refused: BTreeSet::new(),
            wrong: Vec::new(),
        },
    };
    fs::write(answer, serde_json::to_string(&verdict)?).context("writing the answer")
}

/// What is mounted here ends with this process, and `/run` is empty.
fn own_mounts() -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_raw(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount_raw(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)?;
    Ok(())
}

fn examine(config: &Bundle, disk: &Path, log: &Arc<Log>) -> Result<Verdict> {
    let name = disk.file_name().context("a disk has a name")?;
    let block = Path::new(ONE).join("block");
    fs::create_dir_all(&block)?;
    symlink(Path::new(SYS).join("block").join(name), block.join(name))?;
    if !partitions(config, log)? {
        // The first boot was cut before there was a table: the next one begins anew.
        let outcome = Outcome::Installs;
        let (places, refused) = (BTreeMap::new(), BTreeSet::new());
        return Ok(Verdict { outcome, places, fallback: None, refused, wrong: Vec::new() });
    }
    let tools = Tools::from_path(OsStr::new(TOOLS));
    let decision = power_on::decide(config, vec![probe_one()?], tools, Arc::clone(log))?;
    let (places, mut wrong) = places(&decision, log);
    let mut fallback = None;
    let outcome = match &decision.chosen {
        Ok(slot) => {
            match compare::system(slot, config, log) {
                Ok(found) => {
                    wrong.extend(found.wrong);
                    fallback = found.fallback;
                }
                Err(e) => wrong.push(reason(&e)),
            }
            boots(&decision, slot)?
        }
        Err(nothing) => installs(nothing, &decision, config)?,
    };
    let refused = decision.facts.refused().iter().map(|serial| serial.0).collect();
    Ok(Verdict { outcome, places, fallback, refused, wrong })
}

/// As on a machine: a damaged table is mended, and the kernel knows its partitions. False if some of them are still to
/// be made.
fn partitions(config: &Bundle, log: &Log) -> Result<bool> {
    let plans = plan::plan(&config.drives, &[probe_one()?])?;
    let adds =
        |step: &plan::Step| matches!(step, plan::Step::WriteTable { add, .. } if !add.is_empty());
    if plans.iter().flat_map(|plan| &plan.steps).any(adds) {
        return Ok(false);
    }
    for plan in &plans {
        // A node that is not there at once on a loop device never comes.
        let mut wait = |done: &mut dyn FnMut() -> bool| done();
        gpt::apply(plan, Path::new(SYS), Path::new(DEV), &mut wait, log)?;
    }
    Ok(true)
}

type Places = BTreeMap<String, BTreeMap<String, String>>;

/// BOOTFS and USERDATAFS, where they are made, and what is wrong with them.
fn places(decision: &Decision, log: &Log) -> (Places, Vec<String>) {
    let (mut places, mut wrong) = (Places::new(), Vec::new());
    for place in [&decision.found.boot, &decision.found.userdata].into_iter().flatten() {
        let Some(info) = &place.filesystem else { continue };
        let Some(label) = info.label.clone().filter(|label| label == place.role.label()) else {
            wrong.push(format!(
                "{}, for {}, holds {info}",
                place.device.display(),
                place.role.label()
            ));
            continue;
        };
        match files(place, log) {
            Ok(files) => drop(places.insert(label, files)),
            Err(e) => wrong.push(format!("{label}: {}", reason(&e))),
        }
    }
    (places, wrong)
}

fn probe_one() -> Result<BlockDevice> {
    let disks = probe::block_devices(Path::new(ONE), Path::new(DEV), Loops::Include)?;
    disks.into_iter().next().context("the disk is gone")
}

fn boots(decision: &Decision, slot: &Slot) -> Result<Outcome> {
    let device = slot.device.display().to_string();
    let number = device.rsplit('p').next().and_then(|n| n.parse().ok());
    let facts = decision.facts.slots.iter().find(|facts| facts.device == device);
    let system = facts.and_then(facts::Slot::system);
    let system = system.with_context(|| format!("{device} was chosen, and holds no system"))?;
    Ok(Outcome::Boots {
        partition: number.context("a partition has a number")?,
        version: system.version.clone(),
    })
}

/// Without a system, a machine must be able to install one as soon as there is a server.
fn installs(nothing: &NothingToBoot, decision: &Decision, config: &Bundle) -> Result<Outcome> {
    let mut facts = decision.facts.clone();
    // The server has what was half installed, and nothing newer.
    let serials = facts.slots.iter().filter_map(|slot| Some(slot.system()?.serial));
    let serial = serials.max().unwrap_or(Serial(1));
    facts.offer = Some(Offer { serial, version: "1".to_owned(), allow_downgrade: false });
    loop {
        match decide::next(&facts, &Policy::from(&config.boot)) {
            Next::Do(Step::Install(_), _) => return Ok(Outcome::Installs),
            Next::Do(step, _) => facts.apply(step),
            other => bail!("{nothing}, and with a server {other:?} instead of an installation"),
        }
    }
}

/// Every file of BOOTFS or USERDATAFS.
fn files(place: &Place, log: &Log) -> Result<BTreeMap<String, String>> {
    let mounted = mount::mount_place(place, Path::new(WORK), Access::ReadOnly, log)?;
    let mut files = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        for entry in fs::read_dir(mounted.path().join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                waiting.push(path);
            } else {
                let digest = Sha256::of(&fs::read(entry.path())?);
                files.insert(path.display().to_string(), digest.to_string());
            }
        }
    }
    mounted.unmount()?;
    Ok(files)
}
