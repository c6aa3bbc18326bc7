//! The files of the configuration, by category: those that the parsers know, and all others that are there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use gse_protocol::config::{bundle::FILES, system};

use crate::build::config_names;

/// A category.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What every machine reads.
    Machines,
    /// What machines put into their systems.
    Applied,
    /// What builds read.
    System,
    /// Portage's files in systems that are built.
    Portage,
}

impl Group {
    /// In the order of the menu.
    pub const ALL: [Self; 4] = [Self::System, Self::Portage, Self::Machines, Self::Applied];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Machines => "Machines",
            Self::Applied => "Applied by machines",
            Self::System => "System",
            Self::Portage => "Portage",
        }
    }

    /// What is in it.
    pub fn about(self) -> &'static str {
        match self {
            Self::Machines => "Servers and keys, drives, network, mounts, updates, rooms.",
            Self::Applied => "What machines put into the system that they boot.",
            Self::System => "What builds put into a system: packages, runlevels, files.",
            Self::Portage => "make.conf, package.use, repositories, profiles.",
        }
    }

    fn of(name: &str) -> Self {
        match name {
            _ if name.starts_with("system/portage/") => Self::Portage,
            _ if name.starts_with("system/") => Self::System,
            _ if name.starts_with("controller/system/") => Self::Applied,
            _ => Self::Machines,
        }
    }
}

/// A file that can be edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// In `config.d`.
    pub name: String,
    /// Where it is, or would be.
    pub path: PathBuf,
    /// Its category.
    pub group: Group,
    /// Whether it is there.
    pub exists: bool,
}

/// What is left over by editors, and hidden.
fn is_ours(name: &str) -> bool {
    !name.starts_with('.') && !name.ends_with('~')
}

/// All files of a configuration, sorted: those with names that have a meaning even if they are not there.
pub(super) fn files(config: &Path) -> Vec<Listed> {
    let mut names: BTreeSet<String> = FILES.iter().map(|name| (*name).to_owned()).collect();
    names.extend(system::names().map(|name| format!("controller/system/{name}")));
    names.extend(config_names::names().map(|name| format!("system/{name}")));
    below(config, "", &mut names);
    let listed = |name: String| {
        let path = config.join(&name);
        Listed { group: Group::of(&name), exists: path.exists(), path, name }
    };
    names.into_iter().map(listed).collect()
}

/// A folder that cannot be read has no files to edit.
fn below(config: &Path, prefix: &str, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(config.join(prefix)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        if !is_ours(&name) {
            continue;
        }
        if config.join(&path).is_dir() {
            below(config, &path, names);
        } else {
            names.insert(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_default_configuration_has_its_category() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.d");
        let files = files(&config);
        let group = |name: &str| files.iter().find(|file| file.name == name).map(|file| file.group);
        for (name, expected) in [
            ("sources.toml", Group::Machines),
            ("controller/drives.toml", Group::Machines),
            ("controller/system/links", Group::Applied),
            ("system/build.toml", Group::System),
            ("system/portage/make.conf", Group::Portage),
        ] {
            assert_eq!(group(name), Some(expected), "{name}");
        }
        // A name with a meaning is there before its file is.
        assert!(files.iter().any(|file| file.name == "system/fstab" && !file.exists));
    }
}
