//! `from-<version>.index.zst`: what makes the index of one image out of that of an older one.
//!
//! It is the newer index's CBOR in one zstd frame, with the older one's as its prefix: what `zstd --patch-from` makes.
//! Machines keep the CBOR of what they have installed, most of which are digests that the newer index has too. The
//! signed release says what each file starts from, and gives its digest, so none is unpacked that was not signed.
//! [`crate::index::unpack`] does that.

use std::io::Write as _;

use crate::index::{Error, MAX_UNPACKED};

/// Its name, in the folder of the newer image.
pub fn name(version: &str) -> String {
    format!("from-{version}.index.zst")
}

/// The file that makes `newer` out of `older`, both CBOR.
///
/// # Errors
/// Those of zstd.
pub fn make(newer: &[u8], older: &[u8], level: i32) -> Result<Vec<u8>, Error> {
    // All of the prefix has to be in reach to the end. A reader's window is never larger than what it unpacks, since
    // the frame says how much that is.
    let reach = (newer.len() as u64 + older.len() as u64).clamp(1 << 10, MAX_UNPACKED);
    let packed = (|| {
        let mut encoder = zstd::Encoder::with_ref_prefix(Vec::new(), level, older)?;
        encoder.set_pledged_src_size(Some(newer.len() as u64))?;
        encoder.window_log(reach.next_power_of_two().ilog2())?;
        encoder.long_distance_matching(true)?;
        encoder.write_all(newer)?;
        encoder.finish()
    })();
    packed.map_err(|e: std::io::Error| Error::Zstd(e.to_string()))
}
