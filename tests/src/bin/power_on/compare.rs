//! An installed system beside the signed index that it was made from, by what `gse-controller verify` compares with.

use std::path::Path;

use anyhow::{Context as _, Result};
use gse_controller::{
    booted::verify,
    disk::{
        mount::{Access, OpenSlot},
        records::{FOLDER, Records},
        slots::Slot,
    },
    log::Log,
};
use gse_protocol::config::Bundle;

const TOP: &str = "/run/top";

/// What was found in a slot.
#[derive(Default)]
pub(crate) struct Found {
    /// What differs, a sentence each. Files of the configuration are compared by the image's own copies.
    pub(crate) wrong: Vec<String>,
    /// Which version gave way the last time, and why.
    pub(crate) fallback: Option<String>,
}

/// Looks at the system of a slot.
pub(crate) fn system(slot: &Slot, config: &Bundle, log: &Log) -> Result<Found> {
    let open = OpenSlot::new(slot, Path::new(TOP), Access::ReadOnly, log)?;
    let records = Records::open(open.top())?.context("the chosen slot has no records")?;
    let gse = open.top().join(FOLDER);
    let verified = verify::tree(&open.root(), &gse, &records, &config.sources.keys, log)?;
    let fallback = records.fallback()?.map(|f| format!("{:?}: {}", f.version, f.why));
    drop(records);
    open.close()?;
    let differences = verified.compared.differences.into_iter();
    let wrong = differences.map(|(path, why)| format!("/{}: {why}", path.escape_ascii())).collect();
    Ok(Found { wrong, fallback })
}
