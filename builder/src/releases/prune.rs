//! `--prune`: images that nobody needs any more.

use std::{fs, path::PathBuf};

use serde::Serialize;

use super::{Error, Published, Standing, Store};
use crate::{archive::Dist, file_error::FileError};

/// Something that can go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Surplus {
    /// The image's folder, relative to DIST.
    pub folder: String,
    /// Of the image.
    pub version: String,
    /// How it stands.
    pub standing: Standing,
    /// Bytes of its packed image.
    pub packed: u64,
}

/// Which of these images can go: those that are withdrawn, and all that are older than the `keep` newest beside the default.
pub fn surplus(images: &[Published], keep: usize) -> Vec<Surplus> {
    let mut others: Vec<&Published> =
        images.iter().filter(|image| image.standing == Standing::Published).collect();
    others.sort_by_key(|image| std::cmp::Reverse(image.serial));
    let old = others.into_iter().skip(keep);
    let withdrawn = images.iter().filter(|image| image.standing == Standing::Withdrawn);
    let mut found: Vec<Surplus> = withdrawn
        .chain(old)
        .map(|image| Surplus {
            folder: image.folder.clone(),
            version: image.version.clone(),
            standing: image.standing,
            packed: image.packed,
        })
        .collect();
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    found
}

/// Removes what [`surplus`] names, and says what that was.
///
/// # Errors
/// If DIST is in use or cannot be changed.
pub fn prune(store: &Store, keep: usize) -> Result<Vec<Surplus>, Error> {
    // Nothing is published meanwhile.
    let (_dist, _) = Dist::open(&store.dist, &store.keys)?;
    let found = surplus(&store.list()?, keep);
    for image in &found {
        let folder: PathBuf = store.dist.join(&image.folder);
        fs::remove_dir_all(&folder).map_err(FileError::of("removing", &folder))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use gse_protocol::Serial;

    use super::*;

    fn image(serial: u64, standing: Standing) -> Published {
        Published {
            name: "lab".to_owned(),
            version: serial.to_string(),
            serial: Serial(serial),
            standing,
            packed: 1,
            installed: 1,
            entries: 1,
            made: 0,
            folder: format!("images/lab-{serial}"),
        }
    }

    #[test]
    fn the_default_and_the_newest_beside_it_stay() {
        use Standing::{Default, Published, Withdrawn};
        let images = [
            image(1, Published),
            image(2, Default),
            image(3, Published),
            image(4, Withdrawn),
            image(5, Published),
        ];
        let versions = |keep| {
            let found = surplus(&images, keep);
            found.into_iter().map(|s| s.version).collect::<Vec<_>>()
        };
        assert_eq!(versions(1), ["1", "3", "4"]);
        assert_eq!(versions(0), ["1", "3", "4", "5"]);
        assert_eq!(versions(9), ["4"]);
    }
}
