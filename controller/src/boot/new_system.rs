//! Phase 5: a new system, made in a slot that is not needed.

use std::{fs, os::fd::AsFd as _, path::Path};

use anyhow::{Context as _, Result, bail};
use gse_protocol::{
    Index, Sha256,
    config::{Bundle, drives::Role as PartitionRole},
    index::MAX_PACKED,
    sign::MAX_SIGNATURE,
};

use super::{Disks, Machine, online::Server, slots};
use crate::{
    decide,
    disk::{
        mkfs::{self, Spec},
        mount::{Access, OpenSlot},
        records::{CycleRecord, Published, Records, SlotRecord},
        slots::{Label, Slot},
        wipeable::Wipeable,
    },
    facts::{Facts, SlotId},
    fetch::{RemoteImage, Retry},
    install::{self, Limits},
    mount::SCRATCH,
};

/// Makes the offered system in `target`. Until its record says complete, the slot is worth nothing, and
/// no other slot is touched.
pub(super) fn install(
    machine: &Machine,
    config: &Bundle,
    server: &Server,
    disks: &Disks,
    facts: &Facts,
    target: SlotId,
) -> Result<()> {
    let log = machine.log.as_ref();
    let release = &server.chosen.release;
    let (index, index_bytes, index_signature) = fetch_index(server, config)?;

    let slot = slots::disk_slot(disks, target)?;
    log.info(format_args!(
        "installing {} {} into {}",
        release.name,
        release.version,
        slot.device.display()
    ));
    let slot = format(machine, config, disks, facts, target)?;

    let open = OpenSlot::new(&slot, Path::new(SCRATCH), Access::ReadWrite, log)?;
    let directory = fs::File::open(open.root()).context("opening the new filesystem")?;
    let mut image = RemoteImage::new(
        server.client.clone(),
        &server.chosen.servers,
        &release.image.path,
        release.image.size,
        Retry::default(),
        |switch| {
            log.warn(format_args!(
                "{}; going on at byte {} from {}",
                switch.error, switch.at, switch.next
            ))
        },
    );
    let total = index.packed_size();
    let progress = |done| log.progress("installing", done, total);
    let report =
        install::install(&index, &mut image, directory.as_fd(), &progress, &Limits::default())?;
    log.debug(format_args!("{report:?}"));
    drop(directory);

    let records = Records::create(open.top())?;
    records.set_published(Published::Release, &server.chosen.bytes)?;
    records.set_published(Published::ReleaseSignature, server.chosen.signature.as_bytes())?;
    records.set_published(Published::Index, &index_bytes)?;
    records.set_published(Published::IndexSignature, index_signature.as_bytes())?;
    records.set_cycle(&CycleRecord::fresh(release.serial))?;
    // The last word: everything before it is on the disk.
    records.set_slot(&SlotRecord::new(decide::next_generation(facts), true))?;
    drop(records);
    Ok(open.close()?)
}

/// The index that the release names, checked by its digest and by its own signature.
fn fetch_index(server: &Server, config: &Bundle) -> Result<(Index, Vec<u8>, String)> {
    let release = &server.chosen.release;
    if release.index.size > MAX_PACKED {
        bail!(
            "the index of {} has {} bytes, which no image needs",
            release.version,
            release.index.size
        );
    }
    let mut last = None;
    for base in &server.chosen.servers {
        let url = format!("{base}{}", release.index.path);
        let fetched = (|| -> Result<_> {
            let bytes = server.client.get_small(&url, release.index.size)?;
            if Sha256::of(&bytes) != release.index.sha256 {
                bail!(
                    "{url}: this is not the index that the release names: publish the image again"
                );
            }
            let signature =
                server.client.get_small(&format!("{url}.minisig"), MAX_SIGNATURE as u64)?;
            let signature = String::from_utf8_lossy(&signature).into_owned();
            let index = Index::open(&bytes, &signature, &config.sources.keys)
                .with_context(|| url.clone())?;
            if index.packed_size() != release.image.size {
                bail!(
                    "{url}: it describes another image than the release: publish the image again"
                );
            }
            Ok((index, bytes, signature))
        })();
        match fetched {
            Ok(index) => return Ok(index),
            Err(e) => last = Some(e),
        }
    }
    Err(last.context("no server is left to ask for the index")?)
}

/// Gives the slot a new filesystem with the label INCOMING.
fn format(
    machine: &Machine,
    config: &Bundle,
    disks: &Disks,
    facts: &Facts,
    target: SlotId,
) -> Result<Slot> {
    let slot = slots::disk_slot(disks, target)?;
    let role = if target.0 == 0 { PartitionRole::System } else { PartitionRole::Backup };
    let wanted = config
        .drives
        .partition(role)
        .or_else(|| config.drives.partition(PartitionRole::System))
        .context("controller/drives.toml has no SYSFS, so its filesystem is not known")?;
    let wipeable = match decide::last_healthy(facts) {
        Some(kept) => Wipeable::beside(slot, slots::disk_slot(disks, kept)?)?,
        None => Wipeable::free(slot)?,
    };
    machine.load_filesystem(wanted.filesystem);
    let spec = Spec {
        filesystem: wanted.filesystem,
        label: Label::Incoming,
        options: &wanted.mkfs_options,
        subvolumes: &wanted.subvolumes,
    };
    mkfs::make(wipeable, &spec, Path::new(SCRATCH), &machine.tools, &machine.log)?;
    let again = machine.probe(config)?;
    let made = again.found.slots.into_iter().find(|found| found.device == slot.device);
    made.with_context(|| format!("{} is not there any more", slot.device.display()))
}
