//! What has to change in a system, and what is left alone. Pure.

use std::fmt;

use gse_protocol::config::system::LOCALE_GEN;

use super::{Applied, AppliedFile, Current, Directory, Now, OwnedFile, Thing, Wanted, Wishes};

/// The changes that bring a system to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order.
    pub changes: Vec<Change>,
    /// The record afterwards.
    pub after: Applied,
    /// What the configuration has something for, and is left alone.
    pub left: Vec<Left>,
}

/// One change to the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make a directory.
    MakeDirectory(String, Directory),
    /// Keep the image's own copy.
    Keep(String),
    /// Put this there, or take away what is there.
    Put(String, Thing),
    /// Put the image's own copy back.
    Restore(String),
    /// Remove what the image never had.
    Remove(String),
    /// Remove a directory that the image never had, if nothing is in it.
    RemoveDirectory(String),
}

/// A path that is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is masked.
    Masked(String),
    /// The image has something there that the configuration does not want to replace.
    Taken(String),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masked(path) => write!(f, "/{path} (masked on this machine)"),
            Self::Taken(path) => write!(f, "/{path} (the image has one, and f=n)"),
        }
    }
}

/// What cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The configuration wants a file or link where there is a directory.
    #[error(
        "the configuration has /{0}, but the image has a directory there: take one of them out"
    )]
    IsDirectory(String),
}

impl Plan {
    /// The file that is to be written at `path`.
    pub fn writes(&self, path: &str) -> Option<&OwnedFile> {
        self.changes.iter().find_map(|change| match change {
            Change::Put(at, Thing::File(file)) if at == path => Some(file),
            _ => None,
        })
    }
}

/// Compares what is wanted with what was done before and what is there now.
///
/// A path that is masked is neither written nor restored, and keeps its record: when the mask goes, the
/// configuration goes on where it was.
///
/// # Errors
/// A directory where something else is wanted.
pub fn plan(wishes: &Wishes, before: &Applied, now: &Now) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    // Before the list that they are made of: after a power cut between them, the list is still the old one,
    // and they are made again.
    let generated = wishes.generated.iter().flatten().map(|wanted| (wanted, true));
    let things = wishes.things.iter().map(|wanted| (wanted, false));
    for (Wanted { path, thing, force }, generated) in generated.chain(things) {
        let had = before.file.get(path);
        if now.masked.contains(path) {
            plan.mask(path, had);
            continue;
        }
        let current = now.at(path);
        if *current == Current::Directory && (*force || had.is_some()) {
            return Err(PlanError::IsDirectory(path.clone()));
        }
        let same = matches!(current, Current::Is(is) if is == thing);
        let nothing = *current == NOTHING;
        match had {
            None if same => continue,
            None if !force && !nothing => {
                plan.left.push(Left::Taken(path.clone()));
                continue;
            }
            None if !nothing => plan.changes.push(Change::Keep(path.clone())),
            _ => {}
        }
        if !same {
            plan.changes.push(Change::Put(path.clone(), thing.clone()));
        }
        let pristine = had.map_or(!nothing, |had| had.pristine);
        plan.after.file.insert(path.clone(), AppliedFile { pristine, generated });
    }
    for (path, had) in &before.file {
        if plan.after.file.contains_key(path) {
            continue;
        }
        let carried =
            had.generated && wishes.generated.is_none() && plan.after.file.contains_key(LOCALE_GEN);
        if carried {
            plan.after.file.insert(path.clone(), had.clone());
        } else if now.masked.contains(path) {
            plan.mask(path, Some(had));
        } else if had.pristine {
            plan.changes.push(Change::Restore(path.clone()));
        } else {
            plan.changes.push(Change::Remove(path.clone()));
        }
    }
    plan.directories(wishes, before, now);
    Ok(plan)
}

const NOTHING: Current = Current::Is(Thing::Nothing);

impl Now {
    fn at(&self, path: &str) -> &Current {
        self.at.iter().find(|(at, _)| at == path).map_or(&NOTHING, |(_, current)| current)
    }
}

impl Plan {
    fn mask(&mut self, path: &str, had: Option<&AppliedFile>) {
        self.left.push(Left::Masked(path.to_owned()));
        if let Some(had) = had {
            self.after.file.insert(path.to_owned(), had.clone());
        }
    }

    /// Directories come first, from the top; those that are no longer needed go last.
    fn directories(&mut self, wishes: &Wishes, before: &Applied, now: &Now) {
        let absent = |path: &str| {
            let wanted = wishes.things.iter().find(|wanted| wanted.path == path);
            wanted.is_some_and(|wanted| wanted.thing == Thing::Nothing)
        };
        let mut needed: Vec<&str> = Vec::new();
        let files = self.after.file.keys().filter(|path| !absent(path));
        for path in files.chain(wishes.directories.iter().map(|(path, _)| path)) {
            needed.extend(ancestors(path));
        }
        needed.extend(wishes.directories.iter().map(|(path, _)| path.as_str()));
        let mut changes = Vec::new();
        for path in needed {
            if self.after.directory.iter().any(|done| done == path) {
                continue;
            }
            if *now.at(path) == NOTHING && !now.masked.iter().any(|masked| masked == path) {
                let own = wishes.directories.iter().find(|(own, _)| own == path);
                let directory = own.map_or_else(Directory::default, |(_, directory)| *directory);
                changes.push(Change::MakeDirectory(path.to_owned(), directory));
            } else if !before.directory.iter().any(|had| had == path) {
                continue;
            }
            self.after.directory.push(path.to_owned());
        }
        changes.append(&mut self.changes);
        self.changes = changes;
        for path in before.directory.iter().rev() {
            if !self.after.directory.contains(path) {
                self.changes.push(Change::RemoveDirectory(path.clone()));
            }
        }
    }
}

/// The directories in which a path lies, from the top.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(end, _)| path.get(..end))
}

#[cfg(test)]
mod tests;
