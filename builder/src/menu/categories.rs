//! The files of the configuration, by category: those that the parsers know, and all others that are there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use gse_protocol::config::{bundle::FILES, system};

use super::{
    entries::{Action, Item, Setting, item},
    place::Place,
};
use crate::build::config_names;

/// A category.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// How a build works, and what it takes from this machine.
    Build,
    /// The stages of catalyst.
    Catalyst,
    /// Portage's files in systems that are built.
    Portage,
    /// The repository of the GSE profile.
    Profile,
    /// Packages and runlevels.
    Packages,
    /// The system's own configuration files.
    System,
    /// What every machine reads.
    Machines,
    /// What machines put into their systems.
    Applied,
}

/// Names of [`Group::Build`] in `system/`; one that ends with `/` is a folder.
const OF_BUILD: [&str; 5] = ["build.toml", "inject", "inject.d/", "kernel.config", "keys/"];
/// Those of [`Group::Packages`].
const OF_PACKAGES: [&str; 2] = ["packages", "runlevels"];

impl Group {
    /// In the order of the menu.
    pub const ALL: [Self; 8] = [
        Self::Build,
        Self::Catalyst,
        Self::Packages,
        Self::Portage,
        Self::Profile,
        Self::System,
        Self::Machines,
        Self::Applied,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Build => "Build",
            Self::Catalyst => "Catalyst",
            Self::Portage => "Portage",
            Self::Profile => "GSE profile",
            Self::Packages => "Packages and services",
            Self::System => "System",
            Self::Machines => "Machines",
            Self::Applied => "Applied by machines",
        }
    }

    /// What is in it.
    pub fn about(self) -> &'static str {
        match self {
            Self::Build => "Mirrors, keys, kernel, helpers; what is copied from this machine.",
            Self::Catalyst => "catalyst.conf, catalystrc, the specs of the stages.",
            Self::Portage => "make.conf, package.use, repositories.",
            Self::Profile => "parent-gse and child-gse: USE flags and packages for labs.",
            Self::Packages => "What is installed, and which services start.",
            Self::System => "Name, network, languages, SSH, GRUB, any other file.",
            Self::Machines => "Servers and keys, drives, network, mounts, updates, rooms.",
            Self::Applied => "What machines put into the system that they boot.",
        }
    }

    /// Whether builds read it; machines read the others.
    pub fn is_of_builds(self) -> bool {
        !matches!(self, Self::Machines | Self::Applied)
    }

    fn of(name: &str) -> Self {
        let is_of = |known: &str, file: &str| match known.ends_with('/') {
            true => file.starts_with(known),
            false => file == known,
        };
        match name.strip_prefix("system/") {
            Some(file) if OF_BUILD.iter().any(|known| is_of(known, file)) => Self::Build,
            Some(file) if OF_PACKAGES.contains(&file) => Self::Packages,
            Some(file) if file.starts_with("catalyst/") => Self::Catalyst,
            Some(file) if file.starts_with("portage/") => Self::Portage,
            Some(file) if file.starts_with("gse/") => Self::Profile,
            Some(_) => Self::System,
            None if name.starts_with("controller/system/") => Self::Applied,
            None => Self::Machines,
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
    /// What it is for, as it says itself; none if it is not there.
    pub about: Option<String>,
}

/// The menu of all categories.
pub(super) fn configuration(setting: &Setting) -> Action {
    let each =
        |group: Group| item(group.name(), group.about(), Action::Open(categories(setting, group)));
    let mut items: Vec<Item> = Group::ALL.into_iter().map(each).collect();
    items.push(item(
        "Check what machines read",
        "As it will be read by them.",
        Action::Run(setting.with(&["--check-config"], &[Place::Config])),
    ));
    Action::Open(items)
}

/// The files of one.
pub(super) fn categories(setting: &Setting, of: Group) -> Vec<Item> {
    let edit = |file: &Listed| {
        let about = match &file.about {
            Some(about) if about.is_empty() => "Opens it in the editor.",
            Some(about) => about,
            None => "Is not there yet: the editor makes it.",
        };
        item(file.name.clone(), about, Action::Edit(file.path.clone()))
    };
    setting.files.iter().filter(|file| file.group == of).map(edit).collect()
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
        // What is no text, such as a key, says nothing.
        let about = fs::read(&path).ok();
        let about = about.map(|bytes| first_sentence(&String::from_utf8_lossy(&bytes)));
        Listed { group: Group::of(&name), about, path, name }
    };
    names.into_iter().map(listed).collect()
}

/// The first sentence of the comment that a file begins with; empty if there is none.
fn first_sentence(text: &str) -> String {
    let comment = text.lines().skip_while(|line| line.starts_with("#!"));
    let words: Vec<&str> = comment.map_while(|line| line.strip_prefix("# ")).collect();
    let text = words.join(" ");
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    text.get(..end).unwrap_or_default().to_owned()
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
            ("system/build.toml", Group::Build),
            ("system/kernel.config", Group::Build),
            ("system/packages", Group::Packages),
            ("system/hostname", Group::System),
            ("system/catalyst/stage1.spec", Group::Catalyst),
            ("system/gse/profiles/child-gse/packages", Group::Profile),
            ("system/portage/make.conf", Group::Portage),
        ] {
            assert_eq!(group(name), Some(expected), "{name}");
        }
        // A name with a meaning is there before its file is.
        assert!(files.iter().any(|file| file.name == "system/fstab" && file.about.is_none()));
        // No category is empty, and none has a file of another one.
        for of in Group::ALL {
            assert!(files.iter().any(|file| file.group == of), "{of:?}");
        }
    }

    #[test]
    fn a_file_is_described_by_its_own_first_sentence() {
        for (text, expected) in [
            ("# One. Two.\nx", "One."),
            ("#!/bin/sh\n# Says\n# more.\n#\n# Else.\n", "Says more."),
            ("#off = 1\n", ""),
            ("8\n", ""),
        ] {
            assert_eq!(first_sentence(text), expected, "{text}");
        }
    }
}
