//! A machine that runs the verified image from memory: nothing of it is on a disk, and nothing stays.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use gse_protocol::{
    Index, Release,
    config::{
        Bundle,
        memory::{Place, RunFromMemory},
    },
    index::Kind,
};

use super::{
    Disks, Machine,
    new_system::{self, NewIndex},
    online::Server,
    ready::Ready,
    start,
};
use crate::{
    console::{self, Input},
    disk::{
        choose::{self, ChoiceError},
        plan,
    },
    mount::{self, MountFlags, READY},
    report::BootReport,
    switch_root::check_init,
};

/// What a system needs beside its files, in bytes: its programs, the filesystems in memory over it, and the
/// frames that are unpacked at once.
const RESERVE: u64 = 256 << 20;
/// What the configuration may add to the files, in bytes.
const CONFIGURED: u64 = 64 << 20;
/// What a filesystem in memory takes for each entry, in bytes: an inode, a name, and their caches.
const ENTRY: u64 = 1280;
const PAGE: u64 = 4096;
/// What such a system has instead of a slot's label.
const IN_MEMORY: &str = "memory";

/// The answer to a question that comes before anything is done to a disk: whether this machine runs the
/// server's release from memory.
pub(super) struct Choice(Option<NewIndex>);

impl Choice {
    /// What the kernel command line, the policy, the disks and the person say.
    ///
    /// # Errors
    /// The machine has no other way to run a system, and cannot go this one.
    pub(super) fn new(
        machine: &Machine,
        config: &Bundle,
        disks: &Disks,
        server: Option<&Server>,
    ) -> Result<Self> {
        let policy = &config.boot.memory;
        let no_disk = !disks.has_labels() && !choose::has_disk(&config.drives, &disks.devices);
        let must = machine.cmdline.flag("gse.diskless")
            || policy.run == RunFromMemory::Always
            || no_disk && policy.run != RunFromMemory::Never;
        let may = policy.run == RunFromMemory::Ask && !disks.has_labels();
        if !must && !may {
            return Ok(Self(None));
        }
        if no_disk {
            // It may be one whose driver is missing, or one that has to be named.
            let none = plan::plan(&config.drives, &disks.devices).err();
            machine.log.warn(none.unwrap_or(ChoiceError::NoDisks.into()));
        }
        let prepared = prepare(machine, config, server);
        if must {
            return prepared.map(|index| Self(Some(index)));
        }
        match prepared {
            Ok(index) => Ok(Self((ask(config) == Place::Memory).then_some(index))),
            Err(e) => {
                machine.log.warn(format_args!("{}; it is installed", crate::log::reason(&e)));
                Ok(Self(None))
            }
        }
    }

    /// Makes the system in memory ready, if that was chosen.
    ///
    /// # Errors
    /// Those of the server, and of memory.
    pub(super) fn make(
        self,
        machine: &Machine,
        config: &Bundle,
        server: Option<&Server>,
    ) -> Result<Option<Ready>> {
        let (Some(index), Some(server)) = (self.0, server) else { return Ok(None) };
        let Release { name, version, serial, .. } = &server.chosen.release;
        machine.log.info(format_args!("{name} {version} runs from memory"));
        let root = Path::new(READY);
        let size = files(&index.index) + CONFIGURED;
        let data = format!("mode=0755,nr_inodes=0,size={size}");
        mount::mount(Path::new("tmpfs"), root, "tmpfs", MountFlags::empty(), &data)?;
        let unpack = || new_system::unpack(machine, config, server, &index, &[], root);
        machine.log.phase("new system", unpack)?;
        let (over, left_alone) = start::configure(machine, config, root, root, false);
        let handover = start::handover(machine, config);
        check_init(root, &handover.init)?;
        mount::remount(root, MountFlags::RDONLY)?;
        let report = BootReport {
            label: IN_MEMORY.to_owned(),
            device: "tmpfs".to_owned(),
            filesystem: None,
            version: version.clone(),
            serial: serial.0,
            life: None,
            config_serial: config.serial.0,
            left_alone,
            backup: None,
            fallback: None,
            keys: Vec::new(),
            phases: Vec::new(),
        };
        let health = config.boot.health.clone();
        Ok(Some(Ready { report, mounts: over, userdata: None, health, handover, fetches: false }))
    }
}

/// Says how much memory the release takes.
///
/// # Errors
/// There is none, or too little memory for it.
fn prepare(machine: &Machine, config: &Bundle, server: Option<&Server>) -> Result<NewIndex> {
    let server = server.context(
        "a system can run from memory only while a server offers one: check the cable and the server, then retry",
    )?;
    let index = new_system::fetch_index(machine, config, server, &[])?;
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let free = available(&text).context("/proc/meminfo does not say how much memory is free")?;
    let version = &server.chosen.release.version;
    let needed = files(&index.index).saturating_add(RESERVE);
    let [needs, has] = [needed, free].map(|bytes| bytes.div_ceil(1 << 20));
    if needed > free {
        bail!(
            "version {version} needs {needs} MiB to run from memory, and {has} MiB are free: take a machine with \
             more memory, or one with a disk"
        );
    }
    machine.log.info(format_args!(
        "version {version} needs {needs} MiB to run from memory; {has} MiB are free"
    ));
    Ok(index)
}

fn ask(config: &Bundle) -> Place {
    let policy = &config.boot.memory;
    let (timeout, default) = (policy.ask_timeout, policy.ask_default);
    let usual = if default == Place::Memory { "M/i" } else { "m/I" };
    let prompt = format!("gse: run it from memory, or install it? [{usual}] ({timeout} s) ");
    console::drop_typed();
    match console::ask(&prompt, Duration::from_secs(u64::from(timeout))) {
        Input::Line(line) => match line.trim().to_lowercase().as_str() {
            "m" | "memory" => Place::Memory,
            "i" | "install" => Place::Install,
            _ => default,
        },
        Input::Silence | Input::Closed => default,
    }
}

/// The bytes that the files of an index take in memory, where all is in pages.
fn files(index: &Index) -> u64 {
    let pages = |entry: &gse_protocol::index::Entry| match &entry.kind {
        Kind::File(content) => match &content.extents {
            // Each may begin and end inside a page.
            Some(extents) => content.stored().saturating_add(2 * PAGE * extents.len() as u64),
            None => content.stored().next_multiple_of(PAGE),
        },
        _ => 0,
    };
    index.entries.iter().fold(0, |sum: u64, e| sum.saturating_add(pages(e)).saturating_add(ENTRY))
}

/// `MemAvailable` of /proc/meminfo, in bytes: proc(5).
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use gse_protocol::{
        Serial, Sha256,
        index::{Content, Entry, Extent, FORMAT, Time},
    };

    use super::*;

    #[test]
    fn the_memory_of_files_is_counted_in_pages() {
        let entry = |size, extents| Entry {
            path: Vec::new(),
            kind: Kind::File(Content { size, offset: 0, sha256: Sha256([0; 32]), extents }),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: vec![],
        };
        let hole = Some(vec![Extent { offset: 5000, length: 100 }]);
        for (entries, expected) in [
            (vec![], 0),
            (vec![entry(1, None)], PAGE + ENTRY),
            (vec![entry(PAGE, None), entry(PAGE + 1, None)], 3 * PAGE + 2 * ENTRY),
            (vec![entry(1 << 40, hole)], 100 + 2 * PAGE + ENTRY),
        ] {
            let (name, version) = (String::new(), String::new());
            let (format, serial, frames) = (FORMAT, Serial(1), vec![]);
            let patches = vec![];
            let index = Index { format, name, version, serial, entries, frames, patches };
            assert_eq!(files(&index), expected);
        }
    }

    #[test]
    fn free_memory_is_what_the_kernel_calls_available() {
        let text =
            "MemTotal:        1014296 kB\nMemFree:          1 kB\nMemAvailable:     862124 kB\n";
        assert_eq!(available(text), Some(862_124 << 10));
        assert_eq!(available("MemFree: 1 kB\n"), None);
    }
}
