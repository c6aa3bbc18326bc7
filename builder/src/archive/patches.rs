//! The patch files of a new image: what takes machines there from the last ones.

use std::{path::Path, time::Instant};

use gse_protocol::{Index, patch::PatchFile, sign::Keys};

use super::{ArchiveOptions, Error, IMAGE, PatchSummary, dist::Dist};
use crate::{
    patch::{self, Image},
    progress::Progress,
};

/// A patch file of more than this part of the image is not published: the image itself serves as well.
const PAYS: u64 = 2;

/// An image that machines may have.
pub(super) struct Older {
    pub(super) version: String,
    /// Of its index.
    pub(super) cbor: Vec<u8>,
}

/// Makes the patch files in `work`, beside the image, and lists them in `index`. Says also which images machines may
/// come from; one that cannot be read is passed over.
pub(super) fn make(
    options: &ArchiveOptions<'_>,
    dist: &Dist,
    keys: &Keys,
    index: &mut Index,
    work: &Path,
    progress: &Progress,
) -> Result<(Vec<PatchSummary>, Vec<Older>), Error> {
    let (mut summaries, mut older) = (Vec::new(), Vec::new());
    let folders = dist.last_images(options.name, keys, options.patches)?;
    if folders.is_empty() {
        return Ok((summaries, older));
    }
    let size = index.packed_size();
    let new = Image::with_index(index.clone(), &work.join(IMAGE))?;
    for folder in folders {
        let started = Instant::now();
        let old = match Image::open(&folder, keys) {
            Ok(old) => old,
            Err(why) => {
                progress.note(&format!("no patches from {}: {why}", folder.display()));
                continue;
            }
        };
        if old.index.name != options.name {
            continue;
        }
        let path = work.join(PatchFile::name(&old.index.version));
        let level = patch::LEVEL;
        let made = patch::pack(&old, &new, &path, level, options.threads, progress)?;
        older.push(Older { version: old.index.version, cbor: old.cbor });
        let Some(made) = made else { continue };
        if made.size() > size / PAYS {
            std::fs::remove_file(&path).map_err(Error::write("removing", &path))?;
            continue;
        }
        summaries.push(PatchSummary {
            from: made.version.clone(),
            size: made.size(),
            seconds: started.elapsed().as_secs_f64(),
        });
        index.patches.push(made);
    }
    Ok((summaries, older))
}
