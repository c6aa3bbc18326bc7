//! The hook points of a build: their names, their order, and which belong to which part.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A place in a build that can be left out, done by force, and have scripts around it.
///
/// The order is that of the build; a part stands before the hook points inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Hook {
    /// Whether this machine can build at all.
    Fundamentals,
    /// Part A: the sources, verified, and the tree that they make.
    PartA,
    /// Finds out which stage3 is the latest.
    Seed,
    /// Fetches the portage snapshot.
    Snapshot,
    /// Makes the stage3 with catalyst.
    Catalyst,
    /// Fetches the stage3.
    Precompiled,
    /// Unpacks it.
    Extract,
    /// Part B: what the chroot needs.
    PartB,
    /// Part C: Portage.
    PartC,
    /// The ebuild repository, Portage itself, eix.
    Update,
    /// Portage's configuration, the profile, the locales.
    Portage,
    /// What the configuration changed about installed packages.
    ApplyNew,
    /// Part D: everything of the system compiled anew.
    PartD,
    /// The only work of part D.
    Rebuild,
    /// Part E: the configuration files.
    PartE,
    /// The only work of part E.
    Configure,
    /// Part F: packages.
    PartF,
    /// The only work of part F.
    Install,
    /// Part G: runlevels.
    PartG,
    /// The only work of part G.
    Runlevels,
    /// Part H: the kernel.
    PartH,
    /// The only work of part H.
    Kernel,
    /// Part I: the initramfs.
    PartI,
    /// The only work of part I.
    Initrd,
    /// Part J: packages that only the build needed.
    PartJ,
    /// Part K: what a system is not shipped with.
    PartK,
    /// The only work of part K.
    Clean,
    /// Part L: for the machines to take.
    PartL,
    /// The only work of part L.
    Mark,
}

/// What is known of a hook point.
struct Known {
    hook: Hook,
    /// The first is the one that is shown; the others are understood too.
    names: &'static [&'static str],
    /// What stands for it in a person's output.
    does: &'static str,
    /// The part that it is inside of.
    part: Option<Hook>,
    /// Where its work is done; none of a part that has hook points inside it.
    place: Option<Place>,
}

/// Where work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the machine that builds: stage A.
    Host,
    /// Inside the system that is built: stage B.
    Chroot,
}

const fn part(hook: Hook, name: &'static [&'static str], does: &'static str) -> Known {
    Known { hook, names: name, does, part: None, place: None }
}

const fn inside(
    part: Hook,
    hook: Hook,
    names: &'static [&'static str],
    does: &'static str,
    place: Place,
) -> Known {
    Known { hook, names, does, part: Some(part), place: Some(place) }
}

const fn alone(
    hook: Hook,
    names: &'static [&'static str],
    does: &'static str,
    place: Place,
) -> Known {
    Known { hook, names, does, part: None, place: Some(place) }
}

use Hook::{
    ApplyNew, Catalyst, Clean, Configure, Extract, Fundamentals, Initrd, Install, Kernel, Mark,
    PartA, PartB, PartC, PartD, PartE, PartF, PartG, PartH, PartI, PartJ, PartK, PartL, Portage,
    Precompiled, Rebuild, Runlevels, Seed, Snapshot, Update,
};
use Place::{Chroot, Host};

/// Every hook point, in the order of a build.
const ALL: &[Known] = &[
    alone(Fundamentals, &["gfund"], "Checking this machine", Host),
    part(PartA, &["gparta"], "Part A: the base system"),
    inside(PartA, Seed, &["gseed"], "Looking for the latest stage3", Host),
    inside(PartA, Snapshot, &["gsnap"], "Fetching the portage snapshot", Host),
    inside(PartA, Catalyst, &["gcat"], "Building the stages with catalyst", Host),
    inside(PartA, Precompiled, &["gprec"], "Fetching the stage3", Host),
    inside(PartA, Extract, &["gextr", "extr"], "Extracting tarball", Host),
    alone(PartB, &["gpartb"], "Part B: preparing to enter the new system", Chroot),
    part(PartC, &["gpartc"], "Part C: Portage"),
    inside(PartC, Update, &["gupdate"], "Updating Portage", Chroot),
    inside(PartC, Portage, &["gportage"], "Configuring Portage", Chroot),
    inside(PartC, ApplyNew, &["gapply-new"], "Applying new USE flags", Chroot),
    part(PartD, &["gpartd"], "Part D: rebuilding the system"),
    inside(PartD, Rebuild, &["grebuild"], "Rebuilding @system", Chroot),
    part(PartE, &["gparte"], "Part E: configuration"),
    inside(PartE, Configure, &["gconfigure"], "Writing configuration files", Chroot),
    part(PartF, &["gpartf"], "Part F: packages"),
    inside(PartF, Install, &["ginstall"], "Installing packages", Chroot),
    part(PartG, &["gpartg"], "Part G: runlevels"),
    inside(PartG, Runlevels, &["grunlevels"], "Setting runlevels", Chroot),
    part(PartH, &["gparth"], "Part H: the kernel"),
    inside(PartH, Kernel, &["gkernel", "gker"], "Installing the kernel", Chroot),
    part(PartI, &["gparti"], "Part I: the initramfs"),
    inside(PartI, Initrd, &["ginitrd"], "Installing the initramfs", Chroot),
    alone(PartJ, &["gpartj"], "Part J: removing packages that are no longer required", Chroot),
    part(PartK, &["gpartk"], "Part K: cleanup"),
    inside(PartK, Clean, &["gclean"], "Cleaning up", Chroot),
    part(PartL, &["gpartl"], "Part L: distribution"),
    inside(
        PartL,
        Mark,
        &["gmark", "garchive", "gsign"],
        "Marking the system for distribution",
        Host,
    ),
];

/// Stands for every hook point in a list of them.
const EVERY: &str = "all";

/// A name that is none of a hook point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no hook point {name:?}{}; they are {}", meant(.name), known())]
pub struct Unknown {
    /// The name as it was given.
    pub name: String,
}

fn meant(name: &str) -> String {
    let nearest = ALL
        .iter()
        .flat_map(|k| k.names)
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    nearest.map(|(_, known)| format!(" (did you mean {known}?)")).unwrap_or_default()
}

fn known() -> String {
    let names: Vec<_> = Hook::all().map(Hook::name).collect();
    names.join(", ")
}

impl Hook {
    /// All of them, in the order of a build.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().map(|known| known.hook)
    }

    /// The hook points that are in no other one, in their order.
    pub fn parts() -> impl Iterator<Item = Self> {
        ALL.iter().filter(|known| known.part.is_none()).map(|known| known.hook)
    }

    /// Those inside this one, in their order.
    pub fn inside(self) -> impl Iterator<Item = Self> {
        ALL.iter().filter(move |known| known.part == Some(self)).map(|known| known.hook)
    }

    /// The part that this one is inside of.
    pub fn part(self) -> Option<Self> {
        self.known().and_then(|known| known.part)
    }

    /// Where its work is done, if it has work of its own.
    pub fn place(self) -> Option<Place> {
        self.known().and_then(|known| known.place)
    }

    /// Where scripts around it run. Those of parts B, K and L prepare and look at the tree from outside.
    pub fn place_of_scripts(self) -> Place {
        match self.part().unwrap_or(self) {
            Self::Fundamentals | Self::PartA | Self::PartB | Self::PartK | Self::PartL => {
                Place::Host
            }
            _ => Place::Chroot,
        }
    }

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        self.known().and_then(|known| known.names.first()).copied().unwrap_or_default()
    }

    /// What it does, for a person.
    pub fn does(self) -> &'static str {
        self.known().map(|known| known.does).unwrap_or_default()
    }

    fn known(self) -> Option<&'static Known> {
        ALL.iter().find(|known| known.hook == self)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Hook {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        let found = ALL.iter().find(|known| known.names.contains(&name)).map(|known| known.hook);
        found.ok_or_else(|| Unknown { name: name.to_owned() })
    }
}

impl TryFrom<String> for Hook {
    type Error = Unknown;

    fn try_from(name: String) -> Result<Self, Unknown> {
        name.parse()
    }
}

impl From<Hook> for String {
    fn from(hook: Hook) -> Self {
        hook.name().to_owned()
    }
}

/// What `--lawful-good` and `--enforce` take: names separated by commas or spaces.
///
/// A part in it stands for everything inside it, `all` for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookSet(Vec<Hook>);

impl HookSet {
    /// Reads what was given, once or several times.
    ///
    /// # Errors
    /// A name that is none of a hook point.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, Unknown> {
        let names = texts.iter().flat_map(|text| text.as_ref().split([',', ' ']));
        let mut hooks = Vec::new();
        for name in names.filter(|name| !name.is_empty()) {
            match name {
                EVERY => hooks.extend(Hook::all()),
                _ => hooks.push(name.parse()?),
            }
        }
        Ok(Self(hooks))
    }

    /// Whether the hook point is meant, by itself or by its part.
    pub fn has(&self, hook: Hook) -> bool {
        self.0.contains(&hook) || hook.part().is_some_and(|part| self.0.contains(&part))
    }

    /// Whether everything is meant.
    pub fn has_all(&self) -> bool {
        Hook::all().all(|hook| self.has(hook))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_point_is_known_by_each_of_its_names_and_in_the_order_of_the_build() {
        for known in ALL {
            for name in known.names {
                assert_eq!(name.parse::<Hook>().unwrap(), known.hook);
            }
            assert_eq!(known.hook.name(), *known.names.first().unwrap());
        }
        assert!(Hook::all().is_sorted());
        let flat: Vec<_> = Hook::parts().flat_map(|p| [p].into_iter().chain(p.inside())).collect();
        assert_eq!(flat, Hook::all().collect::<Vec<_>>());
    }

    #[test]
    fn only_hook_points_without_others_inside_have_work() {
        for hook in Hook::all() {
            assert_eq!(hook.place().is_none(), hook.inside().next().is_some(), "{hook}");
        }
    }

    #[test]
    fn a_part_stands_for_what_is_inside_it() {
        let set = HookSet::parse(&["gparta,gupdate", "extr gpartg"]).unwrap();
        let has: Vec<_> = Hook::all().filter(|hook| set.has(*hook)).map(Hook::name).collect();
        let expected = [
            "gparta",
            "gseed",
            "gsnap",
            "gcat",
            "gprec",
            "gextr",
            "gupdate",
            "gpartg",
            "grunlevels",
        ];
        assert_eq!(has, expected);
        assert!(!set.has_all());
        assert!(HookSet::parse(&["all"]).unwrap().has_all());
        assert!(!HookSet::parse::<&str>(&[]).unwrap().has(PartA));
    }

    #[test]
    fn a_wrong_name_is_refused_with_the_nearest_and_all_names() {
        let error = HookSet::parse(&["gupdat"]).unwrap_err().to_string();
        assert!(error.contains("did you mean gupdate?"), "{error}");
        assert!(error.contains("gparta") && error.contains("gmark"), "{error}");
    }
}
