//! A boot in a few lines: what a machine's console said, and when.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::console::Line;

/// What happened, in order, with the time since power on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline(Vec<(Duration, String)>);

/// What a line of the console means: the part that gives it away, and what happened.
const SIGNS: [(&str, &str); 8] = [
    ("Linux version ", "kernel"),
    ("INIT: version ", "the system's own init"),
    ("INIT: Entering runlevel: 2", "default runlevel begins"),
    ("INIT: Entering runlevel: 3", "default runlevel begins"),
    (" login:", "login prompt: default runlevel is up"),
    ("INIT: Switching to runlevel: ", "shutting down"),
    ("reboot: Power down", "off"),
    ("reboot: Restarting system", "reboot"),
];

impl Timeline {
    /// Picks what matters from a console's lines: the stages of any boot, and what the controller says.
    pub fn of(lines: &[Line]) -> Self {
        let mut rows = vec![(Duration::ZERO, "power on".to_owned())];
        let mut seen = BTreeSet::new();
        for line in lines {
            let sign = SIGNS.iter().find(|(sign, _)| line.text.contains(sign));
            let what = sign.map(|(_, what)| (*what).to_owned()).or_else(|| controller(&line.text));
            // Once each: what goes to the console and to the kernel log may be shown twice.
            if let Some(what) = what.filter(|w| seen.insert(w.clone())) {
                rows.push((line.at, what));
            }
        }
        Self(rows)
    }

    /// When something first happened whose description begins like this.
    pub fn at(&self, what: &str) -> Option<Duration> {
        self.0.iter().find(|(_, w)| w.starts_with(what)).map(|(at, _)| *at)
    }
}

/// What the controller says in a line, but for how far it is with something.
fn controller(text: &str) -> Option<String> {
    let said = text.strip_prefix("gse: ")?;
    let progress = said.contains(" %, ") && said.ends_with(" left");
    (!progress).then(|| said.to_owned())
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  seconds      step")?;
        let mut before = Duration::ZERO;
        for (at, what) in &self.0 {
            let step = at.saturating_sub(before);
            writeln!(f, "{:9.2} {:+9.2}  {what}", at.as_secs_f32(), step.as_secs_f32())?;
            before = *at;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn lines(lines: &[(u64, &str)]) -> Vec<Line> {
        let line = |(ms, text): &(u64, &str)| Line {
            at: Duration::from_millis(*ms),
            text: (*text).to_owned(),
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn a_boot_is_a_table_of_its_stages() {
        let timeline = Timeline::of(&lines(&[
            (700, "[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@"),
            (1500, "gse: network: eth0 has 10.0.2.15/24"),
            (1510, "[    1.2] something else"),
            (2000, "gse: install:  50 %, 100 of 200 MiB, 80.0 MiB/s, 2 s left"),
            (4000, "gse: network: eth0 has 10.0.2.15/24"),
            (5250, "INIT: version 3.06 booting"),
            (9000, "lab-677365 login:"),
        ]));
        let table = "  seconds      step
     0.00     +0.00  power on
     0.70     +0.70  kernel
     1.50     +0.80  network: eth0 has 10.0.2.15/24
     5.25     +3.75  the system's own init
     9.00     +3.75  login prompt: default runlevel is up
";
        assert_eq!(timeline.to_string(), table);
        assert_eq!(timeline.at("login prompt"), Some(Duration::from_secs(9)));
        assert_eq!(timeline.at("off"), None);
    }
}
