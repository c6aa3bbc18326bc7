//! Firmware that modules name, and microcode, from where the host keeps them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Error,
    compressed::{self, Compression},
    parallel,
    tree::{Category, Node, Tree},
};

/// Adds the firmware that is there. The answer is how many files are not: no host has them all.
pub(super) fn add(
    tree: &mut Tree,
    place: &Path,
    release: &str,
    wanted: &BTreeSet<String>,
) -> Result<usize, Error> {
    let safe = |name: &&String| {
        Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)))
    };
    let wanted: Vec<_> = wanted.iter().filter(safe).collect();
    let found = parallel::map(&wanted, |name| match find(place, release, name) {
        Some(path) => compressed::read(&path).map(|bytes| Some(((*name).clone(), bytes))),
        None => Ok(None),
    })?;
    let missing = found.iter().filter(|f| f.is_none()).count();
    for (name, bytes) in found.into_iter().flatten() {
        tree.insert(&format!("lib/firmware/{name}"), Category::Firmware, Node::file(bytes));
    }
    Ok(missing)
}

/// In the kernel's order: `fw_path` in its `drivers/base/firmware_loader/main.c`.
fn find(place: &Path, release: &str, name: &str) -> Option<PathBuf> {
    let below =
        [format!("updates/{release}"), "updates".to_owned(), release.to_owned(), String::new()];
    let directories = below.iter().map(|b| place.join(b));
    let candidates =
        directories.flat_map(|d| Compression::ALL.map(|(_, end)| d.join(format!("{name}{end}"))));
    candidates.into_iter().find(|path| path.is_file())
}

/// The tree of the early archive: all microcode that this host has for each maker's processors, in one file
/// each. Path and form: the kernel's `Documentation/arch/x86/microcode.rst`.
pub(super) fn microcode(place: &Path) -> Result<Option<Tree>, Error> {
    let makers = [("intel-ucode", "GenuineIntel"), ("amd-ucode", "AuthenticAMD")];
    let mut tree = Tree::default();
    for (directory, maker) in makers {
        let mut blob = Vec::new();
        for path in files_in(&place.join(directory)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (name, _) = Compression::split(&name);
            // Intel's are named by family, model and stepping; AMD's end with .bin, among signatures.
            if (maker == "AuthenticAMD") == name.ends_with(".bin") && !name.starts_with("README") {
                blob.extend(compressed::read(&path)?);
            }
        }
        if !blob.is_empty() {
            let path = format!("kernel/x86/microcode/{maker}.bin");
            tree.insert(&path, Category::Microcode, Node::file(blob));
        }
    }
    let found = tree.iter().next().is_some();
    Ok(found.then_some(tree))
}

/// The files of a directory, by name; none where it is not there.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}
