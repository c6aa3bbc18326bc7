//! Phase 5: a system made in a blank slot, out of what other slots have of it and the server's image.

use std::{
    fs,
    io::{self, Read as _},
    iter,
    os::fd::AsFd as _,
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::{
    Index, Release, Sha256,
    config::Bundle,
    index::{self, MAX_PACKED},
    patch::PatchFile,
    release::{IndexDelta, WholeFile},
};

use super::{Machine, online::Server, slots::Slots};
use crate::{
    disk::{
        fallback::Fallback,
        mount::{Access, OpenSlot},
        records::{CycleRecord, FOLDER, Generation, Origin, Published, Records, SlotRecord},
    },
    facts::{Facts, Life, System},
    fetch::{Problem, RemoteError, RemoteImage, Retry},
    install::{self, FrameSource as _, FrameSources, Limits, LocalTree, Patch, Plan, Seed},
    kept::Kept,
    log::reason,
};

/// The index of the offered image, which is what the release says.
pub(super) struct NewIndex {
    pub(super) index: Index,
    /// What it was read from.
    cbor: Vec<u8>,
    /// How many bytes were fetched for it.
    pub(super) fetched: u64,
}

/// What a slot that is written remembers of the machine.
#[derive(Clone, Copy)]
pub(super) struct Past<'a> {
    pub(super) facts: &'a Facts,
    pub(super) fallback: Option<&'a Fallback>,
    /// What a new system is made under.
    pub(super) origin: &'a Origin,
}

impl<'a> Past<'a> {
    pub(super) fn of(facts: &'a Facts, slots: &'a Slots<'_>) -> Self {
        Self { facts, fallback: slots.fallback(), origin: slots.origin() }
    }
}

/// A system that is on this machine: its files, and what they should be.
struct Installed {
    index: Index,
    /// Of the index's CBOR.
    digest: Sha256,
    tree: LocalTree,
}

impl Installed {
    fn open(slot: &OpenSlot<'_>, config: &Bundle) -> Result<Self> {
        let records = Records::open(slot.top())?.context("the system has no records")?;
        let kept = Kept::open(&records, &config.sources.keys)?;
        let (index, _) = kept.index()?;
        let tree = LocalTree::open(&slot.root(), &slot.top().join(FOLDER))?;
        Ok(Self { index, digest: kept.release.index.content, tree })
    }
}

/// Makes the offered system in `slot`, which is blank, with what `others` have of it. Until its record says complete,
/// it is worth nothing.
pub(super) fn install(
    machine: &Machine,
    config: &Bundle,
    server: &Server,
    index: &NewIndex,
    past: Past<'_>,
    others: &[&OpenSlot<'_>],
    slot: &mut OpenSlot<'_>,
) -> Result<()> {
    let chosen = &server.chosen;
    slot.set_access(Access::ReadWrite)?;
    unpack(machine, config, server, index, others, &slot.root())?;
    Complete {
        release: [&chosen.bytes, chosen.signature.as_bytes()],
        cbor: &index.cbor,
        cycle: CycleRecord::fresh(chosen.release.serial),
        generation: past.facts.next_generation(),
        past,
    }
    .write(slot)
}

/// Makes the tree of the offered system in `root`, which is empty, with what `others` have of it.
pub(super) fn unpack(
    machine: &Machine,
    config: &Bundle,
    server: &Server,
    index: &NewIndex,
    others: &[&OpenSlot<'_>],
    root: &Path,
) -> Result<()> {
    planned(machine, config, server, Retry::default(), index, others, |plan, patch| {
        machine.log.info(plan.costs());
        by_plan(machine, server, plan, patch, root)
    })
}

/// Plans to make the offered system with what `others` have of it, and lets `work` have the plan, and the patch file
/// that it is made with, which is read with the patience of `retry`.
pub(super) fn planned<T>(
    machine: &Machine,
    config: &Bundle,
    server: &Server,
    retry: Retry,
    index: &NewIndex,
    others: &[&OpenSlot<'_>],
    work: impl FnOnce(&Plan<'_>, Option<RemoteImage<'_>>) -> Result<T>,
) -> Result<T> {
    let mut installed = Vec::new();
    for other in others {
        match Installed::open(other, config) {
            Ok(system) => installed.push(system),
            Err(e) => machine.log.warn(format_args!(
                "nothing is taken from {}: {}",
                other.device().display(),
                reason(&e)
            )),
        }
    }
    let seeds: Vec<_> = installed.iter().map(|i| Seed::new(&i.tree, &i.index)).collect();
    let patch = patch(machine, server, retry, &index.index, &installed, &seeds);
    let (patch, patch_file) = patch.unzip();
    work(&Plan::new(&index.index, &seeds, patch.as_ref())?, patch_file)
}

fn by_plan(
    machine: &Machine,
    server: &Server,
    plan: &Plan<'_>,
    mut patch_file: Option<RemoteImage<'_>>,
    root: &Path,
) -> Result<()> {
    let log = machine.log.as_ref();
    let directory = fs::File::open(root).context("opening the new filesystem")?;
    // A slot was given up for it: nothing is won by giving this up.
    let mut image = remote_image(machine, server, Retry::default());
    let progress = |done, total| log.progress("installing", done, total);
    let sources =
        FrameSources { patch: patch_file.as_mut().map(|file| file as _), image: Some(&mut image) };
    let report = install::make(plan, sources, directory.as_fd(), &progress, &Limits::default())?;
    log.debug(format_args!("{report:?}"));
    if let Some(why) = &report.no_patches {
        log.warn(format_args!("the patches were not used: {why}"));
    }
    if report.damaged.files > 0 {
        log.warn(format_args!(
            "{} files of the installed systems are not what they should be, and were fetched: {}",
            report.damaged.files, report.damaged
        ));
    }
    Ok(())
}

/// Makes a copy of `system`, which is in the slot `from`, in `slot`, which is blank. Content that somebody
/// changed there comes from the server, if that has the same release.
pub(super) fn clone(
    machine: &Machine,
    config: &Bundle,
    server: Option<&Server>,
    past: Past<'_>,
    (from, system): (&OpenSlot<'_>, &System),
    slot: &mut OpenSlot<'_>,
) -> Result<()> {
    let log = machine.log.as_ref();
    let records = Records::open(from.top())?.context("the original has no records")?;
    let kept = Kept::open(&records, &config.sources.keys)?;
    let (index, cbor) = kept.index()?;
    let tree = LocalTree::open(&from.root(), &from.top().join(FOLDER))?;
    let [release, signature] = &kept.files;
    slot.set_access(Access::ReadWrite)?;
    let directory = fs::File::open(slot.root()).context("opening the new filesystem")?;
    let mut image = server
        .filter(|server| server.chosen.bytes == *release)
        .map(|server| remote_image(machine, server, server.retry));
    let progress = |done, total| log.progress("cloning", done, total);
    let start = Instant::now();
    let report = install::clone(
        &index,
        &tree,
        image.as_mut().map(|image| image as _),
        directory.as_fd(),
        &progress,
        &Limits::default(),
    )?;
    log.debug(format_args!("{report:?} in {} ms", start.elapsed().as_millis()));
    drop(directory);
    Complete {
        release: [release, signature],
        cbor: &cbor,
        cycle: CycleRecord::new(system.serial, Life::CLONED, String::new()),
        generation: system.generation,
        past: Past { origin: &kept.origin, ..past },
    }
    .write(slot)
}

/// The records of a system whose files are on the disk.
struct Complete<'a> {
    /// The file, and its signature.
    release: [&'a [u8]; 2],
    /// Of the index.
    cbor: &'a [u8],
    cycle: CycleRecord,
    generation: Generation,
    past: Past<'a>,
}

impl Complete<'_> {
    fn write(self, slot: &mut OpenSlot<'_>) -> Result<()> {
        let records = Records::create(slot.top())?;
        let [release, signature] = self.release;
        records.set_published(Published::Release, release)?;
        records.set_published(Published::ReleaseSignature, signature)?;
        records.set_published(Published::Index, self.cbor)?;
        records.set_cycle(&self.cycle)?;
        if let Some(fallback) = self.past.fallback {
            records.set_fallback(fallback)?;
        }
        // The last word: everything before it is on the disk.
        let mut record = SlotRecord::new(self.generation, true, self.past.facts.refused());
        record.origin = self.past.origin.clone();
        records.set_slot(&record)?;
        drop(records);
        Ok(slot.set_access(Access::ReadOnly)?)
    }
}

/// The offered image, from whichever server has it.
fn remote_image<'m>(machine: &'m Machine, server: &Server, retry: Retry) -> RemoteImage<'m> {
    let image = &server.chosen.release.image;
    remote(machine, server, &image.path, image.size, retry)
}

/// The smallest of the patch files that start from an installed system, with its table. Without one, more is fetched.
fn patch<'s>(
    machine: &'s Machine,
    server: &Server,
    retry: Retry,
    index: &'s Index,
    installed: &[Installed],
    seeds: &'s [Seed<'s>],
) -> Option<(Patch<'s>, RemoteImage<'s>)> {
    let fits = |file: &'s PatchFile| {
        let from = installed.iter().position(|i| i.digest == file.index)?;
        Some((file, seeds.get(from)?))
    };
    let (file, seed) = index.patches.iter().filter_map(fits).min_by_key(|(file, _)| file.size())?;
    let folder = server.chosen.release.image.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = format!("{folder}/{}", PatchFile::name(&file.version));
    let mut remote = remote(machine, server, &path, file.size(), retry);
    match Patch::open(file, index, seed, &mut remote) {
        Ok(patch) => Some((patch, remote)),
        Err(e) => {
            machine.log.warn(format_args!("no patches are used: {e}"));
            None
        }
    }
}

/// A published file, from whichever server has it.
pub(super) fn remote<'m>(
    machine: &'m Machine,
    server: &Server,
    path: &str,
    size: u64,
    retry: Retry,
) -> RemoteImage<'m> {
    RemoteImage::new(server.client.clone(), &server.chosen.servers, path, size, retry, |switch| {
        machine.log.warn(format_args!(
            "{}; going on at byte {} from {}",
            switch.error, switch.at, switch.next
        ));
    })
}

/// The index that the release names, made out of that of one of the systems in `seeds` where the server has what that
/// takes; and a first byte of the image: a server that is busy or has no image says so before anything is given up for it.
pub(super) fn fetch_index(
    machine: &Machine,
    config: &Bundle,
    server: &Server,
    seeds: &[&OpenSlot<'_>],
) -> Result<NewIndex> {
    let release = &server.chosen.release;
    let mut made = None;
    if let Some((delta, older)) = older(config, release, seeds) {
        match from_servers(machine, server, &delta.file(), &older) {
            Err(e) if !is_busy(&e) => {
                machine.log.warn(format_args!("the whole index is fetched: {}", reason(&e)));
            }
            done => made = Some(done?),
        }
    }
    let whole = || from_servers(machine, server, &release.index.whole(), &[]);
    let index = made.map_or_else(whole, Ok)?;
    if release.image.size > 0 {
        let mut image = remote_image(machine, server, server.retry);
        image.expect(iter::once(0..1).collect());
        image.read_exact(&mut [0]).context("looking whether the image can be had")?;
    }
    Ok(index)
}

/// The smallest file that makes the index of the release out of one that is here, and the CBOR of that.
fn older<'r>(
    config: &Bundle,
    release: &'r Release,
    seeds: &[&OpenSlot<'_>],
) -> Option<(&'r IndexDelta, Vec<u8>)> {
    let older = |seed: &&OpenSlot<'_>| {
        let records = Records::open(seed.top()).ok()??;
        let kept = Kept::open(&records, &config.sources.keys).ok()?;
        let content = kept.release.index.content;
        let delta = release.index.since.iter().find(|delta| delta.content == content)?;
        let cbor = kept.cbor().ok()?;
        (Sha256::of(&cbor) == content).then_some((delta, cbor))
    };
    seeds.iter().filter_map(older).min_by_key(|(delta, _)| delta.size)
}

/// The index, from a server that has the file right; `older` is what it was made from, or empty.
fn from_servers(
    machine: &Machine,
    server: &Server,
    file: &WholeFile,
    older: &[u8],
) -> Result<NewIndex> {
    let path = &file.path;
    if file.size > MAX_PACKED {
        bail!("{path} has {} bytes, which no index needs", file.size);
    }
    let mut bytes = Vec::new();
    let mut remote = remote(machine, server, path, file.size, server.retry);
    let right = remote.whole(&mut |from| {
        bytes.clear();
        from.read_to_end(&mut bytes)?;
        Ok(Sha256::of(&bytes) == file.sha256)
    });
    if !right.with_context(|| format!("fetching {path}"))? {
        bail!("{path} is not what the release names on any server: publish the image again");
    }
    let made = index::unpack(&bytes, older)
        .and_then(|cbor| Ok((server.chosen.release.read_index(&cbor)?, cbor)));
    let (index, cbor) = made.with_context(|| format!("reading {path}"))?;
    Ok(NewIndex { index, cbor, fetched: remote.received() })
}

/// Whether servers have too much to do.
fn is_busy(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let remote = error.and_then(|error| error.downcast_ref::<RemoteError>());
    remote.is_some_and(|remote| matches!(remote.last.problem, Problem::Busy(_)))
}
