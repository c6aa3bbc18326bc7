//! How large the controller is that travels in every initramfs.

use std::fs;

use anyhow::{Context as _, Result};
use gse_qemu::lab::program;

use crate::table::{Quantity, Row, Section, Target};

/// 3 MiB
const MOST: Quantity = Quantity::Bytes(3 << 20);

pub(crate) fn measure() -> Result<Section> {
    let path = program("gse-controller")?;
    let size = fs::metadata(&path).with_context(|| format!("looking at {}", path.display()))?.len();
    let row = Row::new("static binary", Quantity::Bytes(size), Target::Absolute(MOST));
    Ok(Section { name: "binary", rows: vec![row], commands: Vec::new() })
}
