//! The administrator's own scripts at dracut's hook points.

use std::{fmt, str::FromStr};

/// A point of dracut's boot at which scripts run, as `dracut.modules(7)` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Point(&'static str);

impl Point {
    /// All that are the same in every supported version.
    const ALL: [&str; 14] = [
        "cmdline",
        "pre-udev",
        "pre-trigger",
        "initqueue",
        "initqueue/settled",
        "initqueue/online",
        "initqueue/finished",
        "initqueue/timeout",
        "pre-mount",
        "mount",
        "pre-pivot",
        "cleanup",
        "pre-shutdown",
        "shutdown",
    ];

    pub(crate) const TIMEOUT: Self = Self("initqueue/timeout");
    /// Before dracut opens its emergency shell.
    pub(crate) const EMERGENCY: Self = Self("emergency");
    pub(crate) const CMDLINE: Self = Self("cmdline");
    /// Before the root is mounted; the controller's phases 1 to 8 are here.
    pub const PRE_MOUNT: Self = Self("pre-mount");
    pub(crate) const MOUNT: Self = Self("mount");
    pub(crate) const PRE_PIVOT: Self = Self("pre-pivot");
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for Point {
    type Err = HookError;

    fn from_str(text: &str) -> Result<Self, HookError> {
        let found = Self::ALL.into_iter().find(|point| *point == text);
        found.map(Self).ok_or_else(|| HookError::Point(text.to_owned()))
    }
}

/// Where among the scripts of a point one runs: 0 to 99, lower ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// A priority, if it has two digits at most.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 100 { Some(Self(number)) } else { None }
    }

    pub(crate) const fn own(number: u8) -> Self {
        Self(number)
    }

    /// What changes the network, at [`Point::PRE_MOUNT`]: before the controller's phases.
    pub const NETWORK: Self = Self(8);
}

impl fmt::Display for Priority {
    /// Two digits: dracut sorts by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

impl FromStr for Priority {
    type Err = HookError;

    fn from_str(text: &str) -> Result<Self, HookError> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten().and_then(Self::new);
        number.ok_or_else(|| HookError::Priority(text.to_owned()))
    }
}

/// A script and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// At which point.
    pub point: Point,
    /// Before and after which others.
    pub priority: Priority,
    /// The script's file name, which becomes part of the hook's.
    pub name: String,
    /// The script. dracut sources it, so it is POSIX sh whatever its first line says.
    pub script: Vec<u8>,
}

impl Hook {
    /// Reads `POINT PRIORITY`, as `--hook` takes it.
    ///
    /// # Errors
    /// What is wrong with either word.
    pub fn parse_place(text: &str) -> Result<(Point, Priority), HookError> {
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            [point, priority] => Ok((point.parse()?, priority.parse()?)),
            _ => Err(HookError::Words(text.to_owned())),
        }
    }

    /// The name of its file: unique, and in the order in which hooks of the same priority were given. dracut
    /// sources only what ends in `.sh`.
    pub(crate) fn file_name(&self, number: usize) -> String {
        let name: String = self
            .name
            .trim_end_matches(".sh")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .collect();
        format!("gse-local-{number:02}-{name}.sh")
    }
}

/// What is wrong with the place of a hook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// Not two words.
    #[error("{0:?} is no hook: write a point and a priority, as in --hook=\"pre-mount 30\"")]
    Words(String),
    /// dracut has no such point.
    #[error("{0:?} is no hook point of dracut; there are {points}", points = Point::ALL.join(", "))]
    Point(String),
    /// Not a number of two digits.
    #[error("{0:?} is no priority: write a number from 0 to 99; lower ones run first")]
    Priority(String),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_point_and_a_priority() {
        let (point, priority) = Hook::parse_place("initqueue/settled  7").unwrap();
        assert_eq!(
            (point.to_string(), priority.to_string()),
            ("initqueue/settled".into(), "07".into())
        );
        for (text, what) in [
            ("", "write a point and a priority"),
            ("pre-mount", "write a point and a priority"),
            ("pre-mount 1 2", "write a point and a priority"),
            ("before-mount 10", "no hook point"),
            ("mount ten", "no priority"),
            ("mount -1", "no priority"),
            ("mount +1", "no priority"),
            ("mount 100", "no priority"),
        ] {
            let error = Hook::parse_place(text).unwrap_err().to_string();
            assert!(error.contains(what), "{text:?}: {error}");
        }
    }

    #[test]
    fn hooks_of_one_priority_keep_their_order_and_names_are_harmless() {
        let hook = |name: &str| Hook {
            point: Point::PRE_MOUNT,
            priority: Priority(8),
            name: name.to_owned(),
            script: Vec::new(),
        };
        assert_eq!(hook("vlan.sh").file_name(1), "gse-local-01-vlan.sh");
        assert_eq!(hook("my $(net)").file_name(2), "gse-local-02-my___net_.sh");
    }
}
