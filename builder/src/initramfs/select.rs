//! Which modules go in: what was asked for, and everything that those need. Pure.

use std::collections::BTreeSet;

use gse_protocol::config::drives::Filesystem;

use super::{
    Error,
    classes::{self, CLASSES, Class},
    compressed::Compression,
    kernel::{Kernel, Name, alias},
};

/// The drivers that `--drivers` asks for, by name or class, with all that they need. Nothing asked for
/// means the default classes. Filesystems are always in: without them a machine can do nothing.
pub(super) fn select(
    kernel: &Kernel,
    release: &str,
    drivers: &[String],
    filesystems: &[Filesystem],
) -> Result<BTreeSet<Name>, Error> {
    let default = [classes::DEFAULT.to_owned()];
    let drivers = if drivers.is_empty() { &default } else { drivers };
    let mut chosen = Vec::new();
    for filesystem in classes::filesystem_modules(filesystems) {
        chosen.extend(kernel.resolve(filesystem).unwrap_or_default());
    }
    for word in drivers.iter().map(|w| w.trim()).filter(|w| !w.is_empty()) {
        let by_class = CLASSES.iter().filter(|c| means(word, c)).collect::<Vec<_>>();
        for class in &by_class {
            chosen.extend(members(kernel, class));
        }
        if by_class.is_empty() && word != classes::FILESYSTEM {
            let found = kernel.resolve(word).ok_or_else(|| unknown(kernel, release, word))?;
            chosen.extend(found);
        }
    }
    Ok(close(kernel, chosen))
}

fn means(word: &str, class: &Class) -> bool {
    word == class.name || word == classes::ALL || (word == classes::DEFAULT && class.default)
}

fn members(kernel: &Kernel, class: &Class) -> Vec<Name> {
    let by_place = kernel.modules.iter().filter(|(_, m)| class.has(m)).map(|(n, _)| n.clone());
    let by_name = class.modules.iter().filter_map(|m| kernel.resolve(m)).flatten();
    by_place.chain(by_name).collect()
}

/// The modules, and all that they need and want. What a module wants and the kernel does not have is passed
/// over, as modprobe does.
fn close(kernel: &Kernel, mut todo: Vec<Name>) -> BTreeSet<Name> {
    let mut closed = BTreeSet::new();
    while let Some(name) = todo.pop() {
        let Some(module) = kernel.modules.get(&name) else { continue };
        if closed.insert(name) {
            todo.extend(module.needs.iter().cloned());
            todo.extend(module.wants.iter().filter_map(|w| kernel.resolve(w)).flatten());
        }
    }
    closed
}

fn unknown(kernel: &Kernel, release: &str, word: &str) -> Error {
    let plain = word.strip_suffix(".ko").unwrap_or(word).replace('-', "_");
    let words = [classes::ALL, classes::DEFAULT, classes::FILESYSTEM];
    let names = kernel.modules.keys().chain(&kernel.builtin).map(Name::as_str);
    let mut near: Vec<(usize, &str)> = CLASSES
        .iter()
        .map(|c| c.name)
        .chain(words)
        .chain(names)
        .map(|name| (strsim::damerau_levenshtein(&plain, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .collect();
    near.sort();
    near.dedup();
    Error::UnknownDriver {
        name: word.to_owned(),
        release: release.to_owned(),
        near: near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect(),
    }
}

/// The text files for an image that has these modules, in the formats of depmod, by their names.
///
/// Lines keep depmod's order, which is that of the modules' priority.
pub(super) fn texts(kernel: &Kernel, chosen: &BTreeSet<Name>) -> [(&'static str, String); 4] {
    let has_path = |path: &str| {
        let (plain, _) = Compression::split(path);
        let file = plain.rsplit('/').next().and_then(|f| f.strip_suffix(".ko"));
        file.is_some_and(|f| chosen.contains(&Name::new(f)))
    };
    let dep = kernel.texts.dep.lines().filter_map(|line| {
        let (path, needs) = line.split_once(':')?;
        has_path(path).then(|| {
            let plain = |path: &str| format!(" {}", image_path(path));
            let needs: String = needs.split_whitespace().map(plain).collect();
            format!("{}:{needs}\n", image_path(path))
        })
    });
    let aliases = kernel
        .texts
        .alias
        .lines()
        .filter(|line| alias(line).is_some_and(|(_, name)| chosen.contains(&name)));
    let softdeps = kernel.texts.softdep.lines().filter(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("softdep")
            && words.next().is_some_and(|n| chosen.contains(&Name::new(n)))
    });
    [
        ("modules.dep", dep.collect()),
        ("modules.alias", joined(aliases)),
        ("modules.softdep", joined(softdeps)),
        ("modules.builtin", kernel.texts.builtin.clone()),
    ]
}

/// Where a module lies in the image, below its module directory: decompressed, and never outside.
pub(super) fn image_path(path: &str) -> &str {
    Compression::split(path).0.trim_start_matches('/')
}

fn joined<'t>(lines: impl Iterator<Item = &'t str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::kernel::Texts, *};

    fn kernel() -> Kernel {
        Kernel::parse(Texts {
            dep: "kernel/fs/btrfs/btrfs.ko.xz: kernel/lib/raid6/raid6_pq.ko.xz kernel/lib/xor.ko.xz\n\
                  kernel/lib/raid6/raid6_pq.ko.xz:\n\
                  kernel/lib/xor.ko.xz:\n\
                  updates/dkms/e1000e.ko.xz: kernel/drivers/ptp/ptp.ko.xz\n\
                  kernel/drivers/ptp/ptp.ko.xz:\n\
                  kernel/sound/snd-hda.ko.xz:\n\
                  kernel/crypto/crc32c-fast.ko.xz:\n"
                .to_owned(),
            alias: "# comment\nalias pci:v00008086d* e1000e\nalias crypto-crc32c crc32c_fast\nalias pci:v1 snd_hda\n"
                .to_owned(),
            softdep: "softdep btrfs pre: crypto-crc32c post: ptp absent\nsoftdep snd_hda pre: ptp\n".to_owned(),
            weakdep: "weakdep raid6_pq xor\n".to_owned(),
            builtin: "kernel/fs/ext4/ext4.ko\n".to_owned(),
            order: "kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko\n".to_owned(),
        })
    }

    fn names(chosen: &BTreeSet<Name>) -> Vec<&str> {
        chosen.iter().map(Name::as_str).collect()
    }

    fn chosen(drivers: &[&str], filesystems: &[Filesystem]) -> Result<BTreeSet<Name>, Error> {
        let drivers: Vec<_> = drivers.iter().map(|d| (*d).to_owned()).collect();
        select(&kernel(), "6.1.0", &drivers, filesystems)
    }

    #[test]
    fn dependencies_and_soft_dependencies_come_along() {
        let chosen = chosen(&["filesystem"], &[Filesystem::Btrfs]).unwrap();
        assert_eq!(names(&chosen), ["btrfs", "crc32c_fast", "ptp", "raid6_pq", "xor"]);
    }

    #[test]
    fn a_replaced_driver_keeps_the_class_of_the_original() {
        assert_eq!(names(&chosen(&["net"], &[]).unwrap()), ["e1000e", "ptp"]);
        assert_eq!(names(&chosen(&[], &[]).unwrap()), ["e1000e", "ptp"]);
    }

    #[test]
    fn drivers_are_named_with_either_dash_and_what_is_built_in_is_there_already() {
        assert_eq!(names(&chosen(&["snd-hda", "ext4"], &[]).unwrap()), ["ptp", "snd_hda"]);
        assert_eq!(names(&chosen(&["snd_hda"], &[]).unwrap()), ["ptp", "snd_hda"]);
    }

    #[test]
    fn an_unknown_driver_is_an_error_with_the_nearest_names() {
        let error = chosen(&["e1000f"], &[]).unwrap_err().to_string();
        assert!(error.contains("\"e1000f\"") && error.contains("did you mean e1000e?"), "{error}");
        let error = chosen(&["nett"], &[]).unwrap_err().to_string();
        assert!(error.contains("did you mean net"), "{error}");
        let error = chosen(&["zzzzzzzzz"], &[]).unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn text_files_have_the_lines_of_what_is_there() {
        let chosen = chosen(&["e1000e"], &[Filesystem::Btrfs]).unwrap();
        let [dep, alias, softdep, builtin] = texts(&kernel(), &chosen);
        assert_eq!(
            dep.1,
            "kernel/fs/btrfs/btrfs.ko: kernel/lib/raid6/raid6_pq.ko kernel/lib/xor.ko\n\
             kernel/lib/raid6/raid6_pq.ko:\n\
             kernel/lib/xor.ko:\n\
             updates/dkms/e1000e.ko: kernel/drivers/ptp/ptp.ko\n\
             kernel/drivers/ptp/ptp.ko:\n\
             kernel/crypto/crc32c-fast.ko:\n"
        );
        assert_eq!(alias.1, "alias pci:v00008086d* e1000e\nalias crypto-crc32c crc32c_fast\n");
        assert_eq!(softdep.1, "softdep btrfs pre: crypto-crc32c post: ptp absent\n");
        assert_eq!(builtin.1, "kernel/fs/ext4/ext4.ko\n");
    }
}
