//! Part L: the image, signed, and the release by which machines take it.

use std::path::Path;

use crate::{
    archive::{self, ArchiveOptions, Summary},
    build::{Error, Publish},
    keys::SecretKey,
    progress::Progress,
};

/// `gmark`
pub(in crate::build) fn mark(
    publish: &Publish,
    key: &SecretKey,
    tree: &Path,
    progress: &Progress,
) -> Result<Summary, Error> {
    let options = ArchiveOptions {
        tree,
        name: &publish.name,
        version: &publish.version,
        dist: &publish.dist,
        key,
        older_keys: &publish.older_keys,
        level: publish.level,
        allow_downgrade: publish.allow_downgrade,
        kernel: None,
        created: publish.created,
        patches: publish.patches,
        threads: archive::cores(),
    };
    Ok(archive::archive(&options, progress)?)
}
