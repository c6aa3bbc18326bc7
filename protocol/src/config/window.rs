//! `update.window`: the times of day at which a machine may install.

use serde::Deserialize;

const DAY: u64 = 24 * 60;

/// Times of day, in UTC. Without any, every time will do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Window(Vec<Span>);

/// Minutes since midnight: the first, and the one after the last. One that ends before it begins goes over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let number = |digits: &str, most: u64| {
                let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
                digits.parse().ok().filter(|number: &u64| plain && *number <= most)
            };
            let minutes = number(hour, 24)? * 60 + number(minute, 59)?;
            (minutes <= DAY).then_some(minutes)
        };
        let (from, to) = text.split_once('-')?;
        let span = Self { from: time(from)? % DAY, to: time(to)? };
        (span.from != span.to).then_some(span)
    }

    fn contains(self, minute: u64) -> bool {
        let (after, before) = (self.from <= minute, minute < self.to);
        if self.from < self.to { after && before } else { after || before }
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let span = |word| {
            Span::parse(word).ok_or_else(|| {
                format!("update.window: {word:?} is no time of day like 22:00-06:00 (in UTC)")
            })
        };
        text.split_whitespace().map(span).collect::<Result<_, _>>().map(Self)
    }
}

impl Window {
    /// Whether it is open at `now`, in seconds since 1970.
    pub fn is_open(&self, now: u64) -> bool {
        let minute = now / 60 % DAY;
        self.0.is_empty() || self.0.iter().any(|span| span.contains(minute))
    }

    /// Seconds from `now` until it is open; 0 while it is.
    pub fn opens_in(&self, now: u64) -> u64 {
        if self.is_open(now) {
            return 0;
        }
        let minute = now / 60 % DAY;
        let waits = self.0.iter().map(|span| (span.from + DAY - minute) % DAY);
        (waits.min().unwrap_or(0) * 60).saturating_sub(now % 60)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn window(text: &str) -> Window {
        Window::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_window_is_open_at_its_times_of_day() {
        let at = |hour: u64, minute: u64| 1_795_392_000 + hour * 3600 + minute * 60 + 30;
        for (text, hour, minute, open, opens) in [
            ("", 12, 0, true, 0),
            ("22:00-06:00", 21, 59, false, 30),
            ("22:00-06:00", 22, 0, true, 0),
            ("22:00-06:00", 0, 0, true, 0),
            ("22:00-06:00", 5, 59, true, 0),
            ("22:00-06:00", 6, 0, false, 16 * 3600 - 30),
            ("12:00-13:00 18:30-24:00", 12, 59, true, 0),
            ("12:00-13:00 18:30-24:00", 13, 0, false, 5 * 3600 + 1800 - 30),
            ("12:00-13:00 18:30-24:00", 23, 59, true, 0),
            ("12:00-13:00 18:30-24:00", 0, 0, false, 12 * 3600 - 30),
            ("00:00-24:00", 0, 0, true, 0),
        ] {
            let (window, now) = (window(text), at(hour, minute));
            assert_eq!(window.is_open(now), open, "{text} at {hour}:{minute}");
            assert_eq!(window.opens_in(now), opens, "{text} at {hour}:{minute}");
            assert!(window.is_open(now + opens), "{text} at {hour}:{minute}");
        }
    }

    #[test]
    fn what_is_no_time_of_day_is_refused() {
        for text in [
            "22",
            "22:00",
            "22:00-",
            "22:60-23:00",
            "25:00-03:00",
            "24:01-03:00",
            "6-7",
            "03:00-03:00",
            "22:00 - 06:00",
            "+2:00-03:00",
            "22:00-06:00,",
        ] {
            let error = Window::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("22:00-06:00"), "{text}: {error}");
        }
    }
}
