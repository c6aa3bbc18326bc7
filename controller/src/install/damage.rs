//! Files of a local tree that are not what the signed index says.

use std::fmt;

use rustix::io::Errno;

/// What is wrong with a file of a local tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There is nothing.
    #[error("missing")]
    Missing,
    /// Where the image has a directory, there is a link or something else.
    #[error("not in a directory of the image any more")]
    Directory,
    /// There is something, but no regular file.
    #[error("no file any more")]
    Kind,
    /// It has another length.
    #[error("{found} bytes instead of {expected}")]
    Length {
        /// In the index.
        expected: u64,
        /// In the tree.
        found: u64,
    },
    /// It has the right length, and other bytes.
    #[error("other content")]
    Content,
    /// The system refuses to read it. btrfs does when a block has not the checksum that was noted.
    #[error("unreadable: {0}")]
    Unreadable(Errno),
}

impl Damage {
    /// What it means that a file, or a directory on its way, could not be opened.
    pub(super) fn opening(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Missing,
            Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Self::Directory,
            other => Self::Unreadable(other),
        }
    }
}

/// All files of a local tree that cannot be used. As text: the first few and how many more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Damaged {
    /// How many files.
    pub files: usize,
    /// The first few in the image's order, and what is wrong with them.
    pub first: Vec<(String, Damage)>,
}

impl Damaged {
    /// How many are named.
    pub(super) const NAMED: usize = 5;
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (path, damage)) in self.first.iter().enumerate() {
            write!(f, "{}{path:?} ({damage})", if number > 0 { ", " } else { "" })?;
        }
        match self.files.saturating_sub(self.first.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_in_a_line() {
        let first = vec![
            ("bin/a".to_owned(), Damage::Missing),
            ("bin/b".to_owned(), Damage::Length { expected: 5, found: 6 }),
        ];
        let mut damaged = Damaged { files: 2, first };
        let both = r#""bin/a" (missing), "bin/b" (6 bytes instead of 5)"#;
        assert_eq!(damaged.to_string(), both);
        damaged.files = 9;
        assert_eq!(damaged.to_string(), format!("{both} and 7 more"));
    }
}
