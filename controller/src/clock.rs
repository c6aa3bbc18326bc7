//! A floor for the clock: a machine whose battery is dead starts in 1970 or 2000, when no TLS
//! certificate is valid yet. What was published or built at a time proves that it is not earlier.

use std::{fmt, fs, io, path::Path};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// The clock cannot be kept from being wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The file with the time of the build.
    #[error(
        "reading the time of the build from {path} ({why}): build the controller's image again"
    )]
    Stamp {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The kernel does not take it.
    #[error("setting the clock ({0}): set it in the firmware, or TLS may not work")]
    Set(#[source] io::Error),
}

/// When the initramfs was built, in seconds since 1970: the decimal number in a file such as
/// `/etc/gse/stamp`.
pub fn stamp(path: &Path) -> Result<u64, ClockError> {
    let wrong = |why: String| ClockError::Stamp { path: path.display().to_string(), why };
    let text = fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    text.trim().parse().map_err(|_| wrong(format!("{:?} is no number of seconds", text.trim())))
}

/// Sets the clock to `floor` (seconds since 1970) if it is earlier, and says whether it was.
pub fn raise_to(floor: u64) -> Result<bool, ClockError> {
    match decide(clock_gettime(ClockId::Realtime).tv_sec, floor) {
        None => Ok(false),
        Some(seconds) => {
            let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
            clock_settime(ClockId::Realtime, time).map_err(|e| ClockError::Set(e.into()))?;
            Ok(true)
        }
    }
}

/// What the machine's clock says, in seconds since 1970.
pub fn now() -> u64 {
    u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or_default()
}

/// What the clock is to be set to, if it is to be.
fn decide(now: i64, floor: u64) -> Option<i64> {
    let floor = i64::try_from(floor).ok()?;
    (now < floor).then_some(floor)
}

/// A day, in the Gregorian calendar and UTC; written as `2026-11-23`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// By the clock.
    pub fn today() -> Self {
        Self::at(clock_gettime(ClockId::Realtime).tv_sec)
    }

    /// The day of a time in seconds since 1970.
    pub fn at(seconds: i64) -> Self {
        // Years that begin in March have their odd day last, and the lengths of their months follow a line
        // (Richards, Explanatory Supplement to the Astronomical Almanac, 15.11).
        let j = seconds.div_euclid(86_400) + 2_440_588;
        let f = j + 1401 + (4 * j + 274_277) / 146_097 * 3 / 4 - 38;
        let e = 4 * f + 3;
        let h = 5 * (e % 1461 / 4) + 2;
        let month = (h / 153 + 2) % 12 + 1;
        Self { year: e / 1461 - 4716 + (14 - month) / 12, month, day: h % 153 / 5 + 1 }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_clock_is_set() {
        let built = 1_790_000_000;
        for (now, expected) in [
            (0, Some(1_790_000_000)),
            (-5, Some(1_790_000_000)),
            (946_684_800, Some(1_790_000_000)),
            (1_789_999_999, Some(1_790_000_000)),
            (1_790_000_000, None),
            (1_800_000_000, None),
        ] {
            assert_eq!(decide(now, built), expected, "{now}");
        }
        assert_eq!(decide(0, u64::MAX), None, "no time that a kernel can have");
        assert!(!raise_to(1).unwrap(), "this machine's clock is later than 1970");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_391_999, "2026-11-22"),
            (1_795_392_000, "2026-11-23"),
            (1_798_761_599, "2026-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(Date::at(seconds).to_string(), date, "{seconds}");
        }
    }

    #[test]
    fn a_stamp_is_a_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "1790000000\n").unwrap();
        assert_eq!(stamp(file.path()).unwrap(), 1_790_000_000);
        fs::write(file.path(), "yesterday").unwrap();
        assert!(stamp(file.path()).unwrap_err().to_string().contains("\"yesterday\""));
        assert!(matches!(stamp(Path::new("/nowhere/stamp")), Err(ClockError::Stamp { .. })));
    }
}
