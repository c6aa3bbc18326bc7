//! The packages of a system: Portage's, and those of Debian.
//!
//! Portage keeps a directory for each package, `/var/db/pkg/CATEGORY/NAME-VERSION`, with its size in bytes in the file `SIZE`
//! (<https://wiki.gentoo.org/wiki//var/db/pkg>). dpkg keeps paragraphs in `/var/lib/dpkg/status`, with sizes in KiB (deb822(5)).

use std::{collections::BTreeMap, path::Path};

use gse_protocol::Index;
use serde::Serialize;

use super::{Error, content::Reader};

const PORTAGE: &str = "var/db/pkg/";
const DPKG: &str = "var/lib/dpkg/status";

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Package {
    /// With its category, and its slot where several versions are installed.
    pub name: String,
    /// As the package manager has it.
    pub version: String,
    /// Bytes, as the package manager has it; 0 if it does not say.
    pub size: u64,
}

/// What became of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Of the package.
    pub name: String,
    /// None if it is new.
    pub old: Option<String>,
    /// None if it is gone.
    pub new: Option<String>,
    /// How many bytes more it takes.
    pub grew: i64,
}

/// The packages of an image, by name.
///
/// # Errors
/// If the image cannot be read.
pub fn packages(image: &Path, index: &Index) -> Result<Vec<Package>, Error> {
    let mut reader = Reader::open(image, index)?;
    let mut found = Vec::new();
    for entry in &index.entries {
        let Some(path) = str::from_utf8(&entry.path).ok() else { continue };
        let Some((category, rest)) =
            path.strip_prefix(PORTAGE).and_then(|path| path.split_once('/'))
        else {
            continue;
        };
        // What Portage is still merging begins with a dash.
        if rest.contains('/') || rest.starts_with('-') {
            continue;
        }
        if let Some((name, version)) = split_version(rest) {
            let size = reader.text(&format!("{path}/SIZE"))?;
            found.push(Package {
                name: format!("{category}/{name}"),
                version: version.to_owned(),
                size: size.and_then(|text| text.trim().parse().ok()).unwrap_or_default(),
            });
        }
    }
    found.extend(reader.text(DPKG)?.iter().flat_map(|status| dpkg(status)));
    found.sort();
    Ok(found)
}

/// Name and version of `NAME-VERSION`: the version begins after the last dash that a digit follows, but for a revision
/// (<https://projects.gentoo.org/pms/8/pms.html#x1-250003.2>).
fn split_version(text: &str) -> Option<(&str, &str)> {
    let revision = text.rfind("-r").filter(|at| {
        let digits = text.get(at + 2..).unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    let body = text.get(..revision.unwrap_or(text.len()))?;
    let at =
        body.rfind('-').filter(|at| body.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit))?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The installed packages of a dpkg status file.
fn dpkg(status: &str) -> Vec<Package> {
    let paragraph = |text: &str| {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
        };
        field("Status")?.ends_with(" installed").then_some(())?;
        let size: u64 = field("Installed-Size").and_then(|size| size.parse().ok()).unwrap_or(0);
        Some(Package {
            name: field("Package")?.to_owned(),
            version: field("Version")?.to_owned(),
            size: size.saturating_mul(1024),
        })
    };
    status.split("\n\n").filter_map(paragraph).collect()
}

/// What became of packages, by name. Where a name has several versions, as slots of Portage have, those that both sides have
/// are left out, and the others stand beside each other.
pub fn compare(old: &[Package], new: &[Package]) -> Vec<Change> {
    let mut sides: BTreeMap<&str, (Vec<&Package>, Vec<&Package>)> = BTreeMap::new();
    for package in old {
        sides.entry(&package.name).or_default().0.push(package);
    }
    for package in new {
        sides.entry(&package.name).or_default().1.push(package);
    }
    let of_name = |(name, (old, new)): (&str, (Vec<&Package>, Vec<&Package>))| {
        let only = |these: &[&Package], those: &[&Package]| {
            let gone = |package: &&&Package| !those.iter().any(|p| p.version == package.version);
            let left: Vec<&Package> = these.iter().filter(gone).copied().collect();
            let versions: Vec<&str> = left.iter().map(|p| p.version.as_str()).collect();
            let size: u64 = left.iter().map(|p| p.size).sum();
            ((!left.is_empty()).then(|| versions.join(", ")), size.cast_signed())
        };
        let ((before, less), (after, more)) = (only(&old, &new), only(&new, &old));
        (before.is_some() || after.is_some()).then(|| Change {
            name: name.to_owned(),
            old: before,
            new: after,
            grew: more.saturating_sub(less),
        })
    };
    sides.into_iter().filter_map(of_name).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, size: u64) -> Package {
        Package { name: name.to_owned(), version: version.to_owned(), size }
    }

    #[test]
    fn a_version_begins_after_the_last_dash_before_a_digit() {
        for (text, expected) in [
            ("bash-5.3_p3-r1", Some(("bash", "5.3_p3-r1"))),
            ("font-misc-7x14-1.0", Some(("font-misc-7x14", "1.0"))),
            ("gtk+-3.24.49", Some(("gtk+", "3.24.49"))),
            ("foo-r1-2", Some(("foo-r1", "2"))),
            ("no-version", None),
        ] {
            assert_eq!(split_version(text), expected, "{text}");
        }
    }

    #[test]
    fn packages_that_dpkg_has_removed_do_not_count() {
        let status = "Package: a\nStatus: install ok installed\nInstalled-Size: 3\nVersion: 1:2-3\nDescription: x\n y\n\n\
                      Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n";
        assert_eq!(dpkg(status), [package("a", "1:2-3", 3072)]);
    }

    #[test]
    fn new_gone_changed_and_slotted_packages_are_told_apart() {
        let old = [
            package("a", "1", 10),
            package("gone", "1", 5),
            package("same", "1", 5),
            package("slot", "11", 5),
            package("slot", "12", 6),
        ];
        let new = [
            package("a", "2", 30),
            package("fresh", "1", 7),
            package("same", "1", 5),
            package("slot", "12", 6),
            package("slot", "13", 9),
        ];
        let lines: Vec<_> = compare(&old, &new)
            .into_iter()
            .map(|c| (c.name, c.old.unwrap_or_default(), c.new.unwrap_or_default(), c.grew))
            .collect();
        let line = |n: &str, o: &str, w: &str, g| (n.to_owned(), o.to_owned(), w.to_owned(), g);
        assert_eq!(
            lines,
            [
                line("a", "1", "2", 20),
                line("fresh", "", "1", 7),
                line("gone", "1", "", -5),
                line("slot", "11", "13", 4)
            ]
        );
    }
}
