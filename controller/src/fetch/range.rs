//! A part of a file, read as it comes, and whether enough comes.

use std::{
    io::{self, Read},
    str::FromStr,
    time::{Duration, Instant},
};

use ureq::{Body, BodyReader};

use super::{Patience, Problem};

/// The rest of a file, from the byte that was asked for.
#[derive(Debug)]
pub struct Part {
    /// The bytes.
    pub stream: Stream,
    /// Whether it goes to the file's end, whatever was asked for: the server does not know ranges.
    pub whole: bool,
    /// The whole file's length in bytes, if the server says so.
    pub total: Option<u64>,
    /// What changes when the file does: its `ETag`, or the time of its last change.
    pub validator: Option<String>,
}

/// Bytes of a body.
pub struct Stream(BodyReader<'static>);

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(body: Body) -> Self {
        Self(body.into_reader())
    }

    /// Reads on, as [`Read::read`] does, with the problem as it is.
    pub fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        Ok(self.0.read(buffer)?)
    }

    /// Throws bytes away.
    pub(super) fn skip(&mut self, bytes: u64, patience: &Patience) -> Result<(), Problem> {
        let mut buffer = vec![0; 64 << 10];
        let mut pace = Pace::default();
        let mut left = bytes;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let start = Instant::now();
            let got = self.read_some(buffer.get_mut(..want).unwrap_or_default())? as u64;
            if got == 0 {
                return Err(Problem::Cut { got: bytes - left, expected: bytes });
            }
            left -= got;
            pace.count(got, start.elapsed(), patience.window, patience.window_bytes)?;
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(|problem| match problem {
            Problem::Connection(error) => error,
            problem => io::Error::other(problem),
        })
    }
}

/// Whether enough comes: some bytes in each window of time that was spent waiting. The time that the reader itself takes
/// does not count.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// So many bytes came beside those that are counted.
    pub(super) fn came(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// So many bytes came in this time. Once a window is full, `enough` have to be in it.
    pub(super) fn count(
        &mut self,
        bytes: u64,
        waited: Duration,
        window: Duration,
        enough: u64,
    ) -> Result<(), Problem> {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < window {
            return Ok(());
        }
        let Self { bytes, waited } = std::mem::take(self);
        if bytes < enough { Err(Problem::Slow { bytes, waited }) } else { Ok(()) }
    }
}

/// `Content-Range: bytes FIRST-LAST/TOTAL` (RFC 9110, section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) total: u64,
}

impl FromStr for ContentRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if plain { digits.parse::<u64>().map_err(|_| ()) } else { Err(()) }
        };
        let (unit, range) = text.trim().split_once(' ').ok_or(())?;
        let (range, total) = range.trim().split_once('/').ok_or(())?;
        let (first, last) = range.split_once('-').ok_or(())?;
        let range = Self { first: number(first)?, last: number(last)?, total: number(total)? };
        let sound = range.first <= range.last && range.last < range.total;
        if unit.eq_ignore_ascii_case("bytes") && sound { Ok(range) } else { Err(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        let range = |first, last, total| Ok(ContentRange { first, last, total });
        for (text, wanted) in [
            ("bytes 0-9/10", range(0, 9, 10)),
            ("Bytes 5-9/10", range(5, 9, 10)),
            ("bytes 5-9/*", Err(())),
            ("bytes */10", Err(())),
            ("bytes 9-5/10", Err(())),
            ("bytes 5-10/10", Err(())),
            ("bytes +5-9/10", Err(())),
            ("bytes 5-9/99999999999999999999999", Err(())),
            ("items 5-9/10", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(text.parse::<ContentRange>(), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_content_range_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<ContentRange>();
        }
    }

    #[test]
    fn a_server_that_trickles_is_given_up_and_a_slow_reader_is_not_blamed() {
        let (second, mut pace) = (Duration::from_secs(1), Pace::default());
        let mut count = |bytes, waited| pace.count(bytes, waited, 10 * second, 1000);
        // A thousand bytes each ten seconds are enough.
        for _ in 0..100 {
            count(100, second).unwrap();
        }
        // One byte a second is not.
        let end = (0..10).find_map(|_| count(1, second).err()).unwrap();
        assert!(matches!(end, Problem::Slow { bytes: 10, .. }), "{end}");
        // Without waiting, no time has passed.
        for _ in 0..1000 {
            count(1, Duration::ZERO).unwrap();
        }
    }
}
