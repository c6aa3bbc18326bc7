//! Results as Markdown.

use std::fmt;

/// A quantity with its unit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Quantity {
    Seconds(f64),
    Bytes(u64),
}

impl Quantity {
    fn number(self) -> f64 {
        match self {
            Self::Seconds(s) => s,
            // Exact far beyond what is measured here.
            Self::Bytes(b) => b as f64,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(s) => write!(f, "{s:.2} s"),
            Self::Bytes(b) => write!(f, "{:.1} MiB", *b as f64 / f64::from(1 << 20)),
        }
    }
}

/// What the ratio of ours to the peer's is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Nothing was promised; shown for comparison.
    None,
    /// At most this.
    AtMost(f64),
    /// Ours alone, at most this.
    Absolute(Quantity),
}

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// GSE's.
    pub(crate) ours: Quantity,
    /// Whose the other is, and how much.
    pub(crate) peer: Option<(String, Quantity)>,
    pub(crate) target: Target,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, ours: Quantity, target: Target) -> Self {
        Self { what: what.into(), ours, peer: None, target }
    }

    #[must_use]
    pub(crate) fn beside(self, name: impl Into<String>, quantity: Quantity) -> Self {
        Self { peer: Some((name.into(), quantity)), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        let (_, theirs) = self.peer.as_ref()?;
        Some(self.ours.number() / theirs.number())
    }

    fn met(&self) -> Option<bool> {
        match self.target {
            Target::None => None,
            Target::AtMost(most) => self.ratio().map(|ratio| ratio <= most),
            Target::Absolute(most) => Some(self.ours.number() <= most.number()),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, theirs) = match &self.peer {
            Some((name, quantity)) => (name.as_str(), quantity.to_string()),
            None => ("", String::new()),
        };
        let ratio = self.ratio().map(display_ratio).unwrap_or_default();
        let target = match self.target {
            Target::None => String::new(),
            Target::AtMost(most) => display_ratio(most),
            Target::Absolute(most) => most.to_string(),
        };
        let met = match self.met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        write!(
            f,
            "| {} | {} | {name} | {theirs} | {ratio} | {target} | {met} |",
            self.what, self.ours
        )
    }
}

/// Small ones as what they are one of: 0.02 is 1/50.
fn display_ratio(ratio: f64) -> String {
    if ratio < 0.4 { format!("1/{:.1}", 1.0 / ratio) } else { format!("{ratio:.2}") }
}

/// A part of the measurements.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its name in the page.
    pub(crate) name: &'static str,
    pub(crate) rows: Vec<Row>,
    /// What was run, by whose name.
    pub(crate) commands: Vec<(String, String)>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | GSE | beside | takes | ratio | target | met |")?;
        writeln!(f, "|---|---:|---|---:|---:|---:|---|")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        if !self.commands.is_empty() {
            writeln!(f, "\n```sh")?;
            for (name, line) in &self.commands {
                writeln!(f, "# {name}\n{line}")?;
            }
            writeln!(f, "```")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_target_is_met() {
        let row = Row::new("time", Quantity::Seconds(0.5), Target::AtMost(0.02));
        let line = row.clone().beside("dracut", Quantity::Seconds(50.0)).to_string();
        assert_eq!(line, "| time | 0.50 s | dracut | 50.00 s | 1/100.0 | 1/50.0 | yes |");
        let line = row.beside("quicker", Quantity::Seconds(1.0)).to_string();
        assert_eq!(line, "| time | 0.50 s | quicker | 1.00 s | 0.50 | 1/50.0 | **no** |");
    }

    #[test]
    fn a_row_can_stand_alone() {
        let most = Target::Absolute(Quantity::Bytes(3 << 20));
        let row = Row::new("size", Quantity::Bytes(2 << 20), most);
        assert_eq!(row.to_string(), "| size | 2.0 MiB |  |  |  | 3.0 MiB | yes |");
    }
}
