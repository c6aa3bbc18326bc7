//! What differs between the published configuration and the one to publish.

use std::fmt;

use gse_protocol::config::bundle::Files;

/// How one file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// Its content or its permissions are others.
    Changed,
    /// It is gone.
    Removed,
}

/// The files that differ, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes(pub Vec<(String, Change)>);

impl Changes {
    /// From `old` to `new`, sorted by path.
    pub fn between(old: &Files, new: &Files) -> Self {
        let gone = old.keys().filter(|path| !new.contains_key(*path));
        let mut changes: Vec<_> = gone.map(|path| (path.clone(), Change::Removed)).collect();
        changes.extend(new.iter().filter_map(|(path, file)| match old.get(path) {
            None => Some((path.clone(), Change::Added)),
            Some(before) if before != file => Some((path.clone(), Change::Changed)),
            Some(_) => None,
        }));
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        Self(changes)
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(path, change)| match change {
            Change::Added => writeln!(f, "  added    {path}"),
            Change::Changed => writeln!(f, "  changed  {path}"),
            Change::Removed => writeln!(f, "  removed  {path}"),
        })
    }
}
