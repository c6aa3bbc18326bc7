//! Where the configuration is.

use std::path::{Path, PathBuf};

/// Where it is when nothing says otherwise; the first that is there counts.
pub const PLACES: [&str; 2] = ["config.d", "/usr/lib64/gse/config.d"];

/// No directory of [`PLACES`] is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no configuration: tried {}; name one with --config=CONFIG.D", PLACES.join(" and "))]
pub struct Missing;

/// The one that was named, else the usual one.
///
/// # Errors
/// If none was named, and none is where it usually is.
pub fn find(named: Option<&Path>) -> Result<PathBuf, Missing> {
    let usual = || PLACES.map(PathBuf::from).into_iter().find(|place| place.is_dir());
    named.map(Path::to_owned).or_else(usual).ok_or(Missing)
}
