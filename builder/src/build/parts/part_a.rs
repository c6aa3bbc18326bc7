//! Part A: which stage3 is the latest, the stage3 and the portage snapshot, verified, and the tree that is unpacked.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::SystemTime,
};

use indicatif::BinaryBytes;

use crate::build::{
    Error,
    config::Sources,
    log::Log,
    mirrors::{Mirrors, Wanted},
    openpgp::Keyring,
    places::Places,
    run::{Cmd, Runner},
    sources::{Digests, Pointer, Sha512},
    state::{Download, Stage3, State, replace},
};

/// The largest pointer, list of digests or signature that is read.
const SMALL: u64 = 1 << 20;

/// What the work of part A needs.
pub(in crate::build) struct Host<'a> {
    pub(in crate::build) sources: &'a Sources,
    /// `config.d/system`, below which relative key files are.
    pub(in crate::build) folder: &'a Path,
    pub(in crate::build) places: &'a Places,
    pub(in crate::build) runner: &'a Runner<'a>,
    /// Whether local files count for nothing.
    pub(in crate::build) anew: bool,
}

impl Host<'_> {
    pub(super) fn log(&self) -> &Log {
        self.runner.log()
    }

    fn keyring(&self) -> Result<Keyring, Error> {
        let files: Vec<PathBuf> = self.sources.keys.iter().map(|k| self.folder.join(k)).collect();
        Ok(Keyring::load(&self.places.own.join("gnupg"), &files)?)
    }

    fn mirrors(&self) -> Result<Mirrors, Error> {
        Ok(Mirrors::new(&self.sources.mirrors)?)
    }

    pub(super) fn download(&self, name: &str) -> PathBuf {
        self.places.downloads.join(name)
    }

    /// Below the base URL of a mirror.
    fn builds(&self) -> String {
        format!("releases/{}/autobuilds", self.sources.arch)
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.download(name);
        replace(&path, bytes).map_err(Error::io("writing", &path))
    }

    /// A small signed file from the first mirror with a good one, or the one that was kept.
    ///
    /// The mirrors' answer is kept once `open` took it.
    fn signed<T>(
        &self,
        path: &str,
        name: &str,
        mut open: impl FnMut(&[u8]) -> Result<T, String>,
    ) -> Result<T, Error> {
        let fetched =
            self.mirrors()?.small(path, SMALL, |bytes| Ok((open(bytes)?, bytes.to_vec())));
        let error = match fetched {
            Ok((value, bytes)) => {
                self.keep(name, &bytes)?;
                return Ok(value);
            }
            Err(error) => error,
        };
        let kept = if self.anew { None } else { fs::read(self.download(name)).ok() };
        match kept.map(|bytes| open(&bytes)) {
            Some(Ok(value)) => {
                self.log().warn(format!("{error}\nthe {name} of an earlier build is used"));
                Ok(value)
            }
            _ => Err(error.into()),
        }
    }
}

/// `gseed`: the latest stage3, by the signed pointer of the mirrors.
pub(in crate::build) fn seed(host: &Host<'_>, state: &mut State) -> Result<(), Error> {
    let keyring = host.keyring()?;
    let (sources, flavour) = (host.sources, &host.sources.flavour);
    let name = format!("latest-stage3-{flavour}.txt");
    let open = |bytes: &[u8]| {
        let text = keyring.open_clearsigned(&name, bytes, &sources.stage3_signers);
        let text = text.map_err(|e| e.to_string())?;
        Pointer::parse(&text, flavour).map_err(|e| e.to_string())
    };
    // A mirror that is behind, or held back by somebody, is passed over.
    let known = fs::read(host.download(&name)).ok().and_then(|bytes| open(&bytes).ok());
    let pointer = host.signed(&format!("{}/{name}", host.builds()), &name, |bytes| {
        let pointer = open(bytes)?;
        match &known {
            Some(known) if pointer.path.as_str() < known.path.as_str() => {
                Err(format!("it names {}, which is older than {}", pointer.path, known.path))
            }
            _ => Ok(pointer),
        }
    })?;
    host.log().note(format!(
        "the latest stage3 is {}, {}",
        pointer.path,
        BinaryBytes(pointer.size)
    ));
    state.stage3 = Some(Stage3 { path: pointer.path, size: pointer.size, verified: None });
    Ok(())
}

/// `gprec`: the stage3 itself, with both of its digests as the release engineers signed them.
pub(in crate::build) fn precompiled(host: &Host<'_>, state: &mut State) -> Result<(), Error> {
    let stage3 = state.stage3.as_mut().ok_or(Error::NoStage3)?;
    let keyring = host.keyring()?;
    let file = stage3.path.file().to_owned();
    let path = format!("{}/{}", host.builds(), stage3.path);
    let name = format!("{file}.DIGESTS");
    let digests = host.signed(&format!("{path}.DIGESTS"), &name, |bytes| {
        let text = keyring.open_clearsigned(&name, bytes, &host.sources.stage3_signers);
        let text = text.map_err(|e| e.to_string())?;
        Digests::parse(&text, &file).map_err(|e| e.to_string())
    })?;
    let to = host.download(&file);
    let check = |path: &Path| {
        let found = File::open(path).and_then(Digests::read).map_err(|e| e.to_string())?;
        if found == digests {
            Ok(())
        } else {
            Err("its digests are not those that were signed: it was changed or damaged".to_owned())
        }
    };
    if !host.anew && to.exists() {
        match check(&to) {
            Ok(()) => host.log().note(format!("{file} is here already, and good")),
            Err(why) => {
                host.log().warn(format!("{file} of an earlier build: {why}; it is fetched again"))
            }
        }
    }
    if host.anew || check(&to).is_err() {
        let wanted = Wanted { path: &path, size: Some(stage3.size), to: &to };
        host.mirrors()?.large(&wanted, &host.log().progress(), check)?;
    }
    stage3.verified = Some(Download { file, sha512: digests.sha512 });
    Ok(())
}

/// `gsnap`: the ebuild repository as the mirrors pack and sign it each day.
///
/// File and signature come from the same mirror: another one may be a day behind. MD5 sums lie beside, and are left there:
/// the signature says more.
pub(in crate::build) fn snapshot(host: &Host<'_>, state: &mut State) -> Result<(), Error> {
    let keyring = host.keyring()?;
    let file = format!("{}.tar.xz", host.sources.snapshot);
    let (to, signature) = (host.download(&file), host.download(&format!("{file}.gpgsig")));
    let check = |path: &Path| {
        let signers = &host.sources.snapshot_signers;
        keyring.check_detached(&file, &signature, path, signers).map_err(|e| e.to_string())
    };
    let mut failure = None;
    for url in &host.sources.mirrors {
        failure.iter().for_each(|error| host.log().note(error));
        match fetch_snapshot(host, url, &file, &to, check) {
            Ok(()) => {
                failure = None;
                break;
            }
            Err(Error::Mirrors(error)) => failure = Some(error),
            Err(other) => return Err(other),
        }
    }
    if let Some(error) = failure {
        if host.anew || check(&to).is_err() {
            return Err(error.into());
        }
        host.log().warn(format!("{error}\nthe {file} of an earlier build is used"));
    }
    let sha512 = File::open(&to).and_then(Sha512::read).map_err(Error::io("reading", &to))?;
    state.snapshot = Some(Download { file, sha512 });
    Ok(())
}

fn fetch_snapshot(
    host: &Host<'_>,
    url: &str,
    file: &str,
    to: &Path,
    check: impl Fn(&Path) -> Result<(), String>,
) -> Result<(), Error> {
    let mirror = Mirrors::new(&[url.to_owned()])?;
    let path = format!("snapshots/{file}");
    let signature = mirror.small(&format!("{path}.gpgsig"), SMALL, |bytes| Ok(bytes.to_vec()))?;
    let kept = fs::read(host.download(&format!("{file}.gpgsig"))).ok();
    host.keep(&format!("{file}.gpgsig"), &signature)?;
    if !host.anew && to.exists() && check(to).is_ok() {
        host.log().note(format!("{file} is here already, and the latest"));
        return Ok(());
    }
    let fetched =
        mirror.large(&Wanted { path: &path, size: None, to }, &host.log().progress(), check);
    if let (Err(_), Some(kept)) = (&fetched, kept) {
        // The file of the earlier build is still there, and this is its signature.
        host.keep(&format!("{file}.gpgsig"), &kept)?;
    }
    Ok(fetched?)
}

/// `gextr`: the tree. It gets its name when it is whole.
pub(in crate::build) fn extract(host: &Host<'_>, state: &State, keep: bool) -> Result<(), Error> {
    let stage3 = state.stage3.as_ref().and_then(|s| s.verified.as_ref());
    let archive = unchanged(host, state.product.as_ref().or(stage3).ok_or(Error::NoStage3)?)?;
    let tree = &host.places.tree;
    if keep && tree.exists() {
        set_aside(tree)?;
    }
    let new = tree.with_extension("new");
    remove_tree(host.runner, &new)?;
    fs::create_dir(&new).map_err(Error::io("making", &new))?;
    let tar = Cmd::new("tar")
        .args(["--extract", "--preserve-permissions", "--same-owner", "--numeric-owner"])
        .args(["--xattrs", "--xattrs-include=*.*", "--directory"])
        .path(&new)
        .arg("--file")
        .path(&archive);
    host.runner.run(&tar)?;
    remove_tree(host.runner, tree)?;
    fs::rename(&new, tree).map_err(Error::io("renaming", &new))
}

/// The path of a file that still is what was verified.
pub(super) fn unchanged(host: &Host<'_>, verified: &Download) -> Result<PathBuf, Error> {
    let path = host.download(&verified.file);
    let found = File::open(&path).and_then(Sha512::read).map_err(Error::io("reading", &path))?;
    if found == verified.sha512 { Ok(path) } else { Err(Error::Changed(path)) }
}

/// Renames an earlier tree after the time at which it is set aside.
fn set_aside(tree: &Path) -> Result<(), Error> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut name = tree.as_os_str().to_owned();
    name.push(format!("-{}", now.as_secs()));
    fs::rename(tree, &name).map_err(Error::io("renaming", tree))
}

/// Removes a tree, never anything that is mounted in it.
pub(in crate::build) fn remove_tree(runner: &Runner<'_>, tree: &Path) -> Result<(), Error> {
    if fs::symlink_metadata(tree).is_err() {
        return Ok(());
    }
    let mounts = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(mounts).map_err(Error::io("reading", mounts))?;
    if let Some(mounted) = mounted_below(&text, tree) {
        return Err(Error::Mounted(mounted));
    }
    Ok(runner
        .run(&Cmd::new("rm").args(["--recursive", "--force", "--one-file-system"]).path(tree))?)
}

/// The first mount at or below a folder, from the text of `/proc/self/mountinfo`
/// (<https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>).
fn mounted_below(mountinfo: &str, folder: &Path) -> Option<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(unescape).find(|point| point.starts_with(folder))
}

/// The kernel writes a space as `\040`, and so for tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let mut path = text.to_owned();
    for (code, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        path = path.replace(code, plain);
    }
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_tree_are_found() {
        let text = "1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / /srv/my\\040tree/proc rw - proc proc rw\n";
        let found = |folder: &str| mounted_below(text, Path::new(folder));
        assert_eq!(found("/srv/my tree"), Some(PathBuf::from("/srv/my tree/proc")));
        assert_eq!(found("/srv/my"), None);
        assert_eq!(found("/srv/my tree/proc/x"), None);
    }
}
