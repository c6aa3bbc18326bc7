//! What catalyst leaves of a stage: a tarball, and digests beside it, unsigned
//! (<https://gitweb.gentoo.org/proj/catalyst.git/tree/catalyst/base/genbase.py>).

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use gse_protocol::{Sha256, digest::Hasher};

use crate::build::sources::{self, Digests, Sha512};

/// What lies beside a tarball, by the endings that are put behind its name.
const BESIDE: [&str; 4] = [".CONTENTS", ".CONTENTS.gz", DIGESTS, SHA256];
const DIGESTS: &str = ".DIGESTS";
const SHA256: &str = ".sha256";

/// There is no product to go on with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// catalyst made none.
    #[error("catalyst made no {0}.tar…: its log says why")]
    Missing(PathBuf),
    /// There are several.
    #[error("there are several products, {}: keep the one that counts", names(.0))]
    Several(Vec<PathBuf>),
    /// It is no tarball.
    #[error("{0} is no tarball: compression_mode has to be one that makes a tar, such as pixz")]
    NoTarball(PathBuf),
    /// It is not what its digests say.
    #[error(
        "{0} is not what {1} says: it was changed or is not whole; --enforce=gcat builds it again"
    )]
    Changed(PathBuf, PathBuf),
    /// The digests are not readable.
    #[error("{path}: {source}")]
    Digests {
        /// Of the digests.
        path: PathBuf,
        /// Why.
        source: sources::Error,
    },
    /// A file.
    #[error("reading {0}")]
    Io(PathBuf, #[source] io::Error),
}

fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

/// The tarball of a stage, by its path without an ending.
///
/// # Errors
/// If there is none, or more than one.
pub fn find(stem: &Path) -> Result<PathBuf, Error> {
    let (Some(folder), Some(name)) = (stem.parent(), stem.file_name()) else {
        return Err(Error::Missing(stem.to_owned()));
    };
    let start = format!("{}.", name.to_string_lossy());
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(&start) && !BESIDE.iter().any(|ending| name.ends_with(ending))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    match found.as_slice() {
        [] => Err(Error::Missing(stem.to_owned())),
        [one] if one.to_string_lossy().contains(&format!("{start}tar")) => Ok(one.clone()),
        [one] => Err(Error::NoTarball(one.clone())),
        _ => Err(Error::Several(found)),
    }
}

/// Compares a tarball with its digests, all of them.
///
/// # Errors
/// If it differs from one, or one is not there.
pub fn check(tarball: &Path) -> Result<Sha512, Error> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|e| Error::Io(path.to_owned(), e));
    let open = || File::open(tarball).map_err(|e| Error::Io(tarball.to_owned(), e));
    let name = tarball.file_name().unwrap_or_default().to_string_lossy();

    let path = beside(tarball, DIGESTS);
    let said = Digests::parse(&read(&path)?, &name)
        .map_err(|source| Error::Digests { path: path.clone(), source })?;
    let found = Digests::read(open()?).map_err(|e| Error::Io(tarball.to_owned(), e))?;
    if found != said {
        return Err(Error::Changed(tarball.to_owned(), path));
    }
    let path = beside(tarball, SHA256);
    let sha256 = sha256(open()?).map_err(|e| Error::Io(tarball.to_owned(), e))?;
    let line = format!("{sha256}  {name}");
    if !read(&path)?.lines().any(|said| said == line) {
        return Err(Error::Changed(tarball.to_owned(), path));
    }
    Ok(found.sha512)
}

/// Takes away the digests of an earlier product, so that it does not pass for a new one.
///
/// # Errors
/// Those of removing.
pub fn forget(stem: &Path) -> Result<(), Error> {
    let Ok(tarball) = find(stem) else { return Ok(()) };
    let path = beside(&tarball, DIGESTS);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Io(path, e)),
        _ => Ok(()),
    }
}

fn beside(tarball: &Path, ending: &str) -> PathBuf {
    let mut name = tarball.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn sha256(mut file: File) -> io::Result<Sha256> {
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn made(name: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, "abc").unwrap();
        let digests = Digests::read(&b"abc"[..]).unwrap();
        let text = format!(
            "# BLAKE2B HASH\n{:?}  {name}\n# SHA512 HASH\n{}  {name}\n",
            digests.blake2b, digests.sha512
        );
        fs::write(beside(&file, DIGESTS), text).unwrap();
        let text = format!("# SHA256 HASH\n{}  {name}\n", Sha256::of(b"abc"));
        fs::write(beside(&file, SHA256), text).unwrap();
        fs::write(beside(&file, ".CONTENTS.gz"), "").unwrap();
        (folder, file)
    }

    #[test]
    fn a_product_is_found_by_its_name_and_checked_by_its_digests() {
        for name in ["stage3-amd64-x.tar.xz", "stage3-amd64-x.tar.bz2", "stage3-amd64-x.tar"] {
            let (folder, file) = made(name);
            let stem = folder.path().join("stage3-amd64-x");
            assert_eq!(find(&stem).unwrap(), file);
            assert_eq!(check(&file).unwrap(), Sha512::of(b"abc"));
            forget(&stem).unwrap();
            assert!(matches!(check(&file), Err(Error::Io(..))));
        }
    }

    #[test]
    fn a_changed_product_or_one_of_its_digests_is_refused() {
        // The first digits of SHA-512, BLAKE2b and SHA-256 of "abc" are ddaf, ba80 and ba78.
        for (what, from) in [("", "abc"), (DIGESTS, "ddaf"), (DIGESTS, "ba80"), (SHA256, "ba78")] {
            let (_folder, file) = made("stage3-amd64-x.tar.xz");
            let path = beside(&file, what);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from));
            fs::write(&path, text.replace(from, "0000")).unwrap();
            assert!(matches!(check(&file), Err(Error::Changed(..))), "{what:?}");
        }
    }

    #[test]
    fn none_several_or_something_else_are_no_product() {
        let (folder, _file) = made("stage3-amd64-x.tar.xz");
        let find = |name: &str| find(&folder.path().join(name)).unwrap_err().to_string();
        assert!(find("stage3-amd64").contains("made no"));
        fs::write(folder.path().join("stage3-amd64-x.tar.bz2"), "").unwrap();
        assert!(find("stage3-amd64-x").contains("x.tar.bz2 and"));
        fs::write(folder.path().join("other.squashfs"), "").unwrap();
        assert!(find("other").contains("compression_mode"));
    }
}
