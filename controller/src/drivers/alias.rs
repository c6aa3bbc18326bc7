//! `modules.alias`: which modules fit a modalias.
//!
//! A stock kernel has tens of thousands of patterns. They are sorted by the text before their first
//! wildcard, so that a look-up asks for each beginning of the modalias, and matches only patterns that
//! begin so.

use std::ops::Range;

/// Patterns, each with the name of a module.
#[derive(Default)]
pub(super) struct Aliases {
    /// Patterns and names with `_` for `-`, as modprobe compares them.
    text: String,
    /// Sorted by the patterns' literal beginning, then by line.
    entries: Vec<Entry>,
}

struct Entry {
    /// Up to the first wildcard.
    literal: Range<usize>,
    pattern: Range<usize>,
    module: Range<usize>,
}

impl Aliases {
    /// Reads `alias PATTERN MODULE` lines, as depmod writes them.
    pub(super) fn parse(text: &str) -> Self {
        let mut aliases = Self::default();
        aliases.text.reserve(text.len());
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            {
                aliases.add(pattern, module);
            }
        }
        aliases.sort();
        aliases
    }

    pub(super) fn add(&mut self, pattern: &str, module: &str) {
        let start = self.text.len();
        push_normal(&mut self.text, pattern);
        let pattern_end = self.text.len();
        push_normal(&mut self.text, module);
        let literal = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
        self.entries.push(Entry {
            literal: start..start + literal,
            pattern: start..pattern_end,
            module: pattern_end..self.text.len(),
        });
    }

    /// Must follow the last [`Aliases::add`].
    pub(super) fn sort(&mut self) {
        let Self { text, entries } = self;
        entries.sort_by_key(|entry| part(text, &entry.literal));
    }

    /// The modules whose pattern fits, in the order of their lines, each once.
    pub(super) fn lookup(&self, modalias: &str) -> Vec<&str> {
        let mut wanted = String::with_capacity(modalias.len());
        push_normal(&mut wanted, modalias);
        let mut found: Vec<&Entry> = Vec::new();
        // What can begin the modalias lies at or after what begins its first byte.
        let mut rest = self.entries.as_slice();
        for end in (0..=wanted.len()).filter(|end| wanted.is_char_boundary(*end)) {
            let beginning = wanted.get(..end).unwrap_or_default();
            rest = rest.split_at(rest.partition_point(|e| self.literal(e) < beginning)).1;
            let same = rest.partition_point(|e| self.literal(e) == beginning);
            let (same, others) = rest.split_at(same);
            rest = others;
            found.extend(same.iter().filter(|entry| {
                fits(part(&self.text, &entry.pattern).as_bytes(), wanted.as_bytes())
            }));
        }
        found.sort_by_key(|entry| entry.pattern.start);
        let mut names: Vec<&str> = Vec::with_capacity(found.len());
        for entry in found {
            let name = part(&self.text, &entry.module);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn literal(&self, entry: &Entry) -> &str {
        part(&self.text, &entry.literal)
    }
}

fn part<'t>(text: &'t str, range: &Range<usize>) -> &'t str {
    text.get(range.clone()).unwrap_or_default()
}

/// Appends `text` with `_` for each `-` that does not stand for a range in brackets.
fn push_normal(to: &mut String, text: &str) {
    let mut brackets = false;
    to.extend(text.chars().map(|c| {
        match c {
            '[' => brackets = true,
            ']' => brackets = false,
            _ => {}
        }
        if c == '-' && !brackets { '_' } else { c }
    }));
}

/// fnmatch(3) without flags and escapes: `*`, `?`, `[a-z]`, `[!a-z]`.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when what follows the last star does not fit: it takes one more byte.
    let mut back: Option<(&[u8], &[u8])> = None;
    loop {
        let one = match (pattern, text) {
            ([], []) => return true,
            ([b'*', rest @ ..], _) => {
                pattern = rest;
                back = Some((rest, text));
                continue;
            }
            ([b'?', rest @ ..], [_, after @ ..]) => Some((rest, after)),
            ([b'[', set @ ..], [byte, after @ ..]) => {
                fits_set(set, *byte).map(|rest| (rest, after))
            }
            ([literal, rest @ ..], [byte, after @ ..]) if literal == byte => Some((rest, after)),
            _ => None,
        };
        match (one, back) {
            (Some(next), _) => (pattern, text) = next,
            (None, Some((after_star, [_, taken @ ..]))) => {
                (pattern, text) = (after_star, taken);
                back = Some((after_star, taken));
            }
            (None, _) => return false,
        }
    }
}

/// What follows the closing bracket, if `byte` is in the set.
fn fits_set(set: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut set) = match set {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let (mut inside, mut first) = (false, true);
    loop {
        set = match set {
            [b']', rest @ ..] if !first => return (inside != negated).then_some(rest),
            [low, b'-', high, rest @ ..] if *high != b']' => {
                inside |= (*low..=*high).contains(&byte);
                rest
            }
            [single, rest @ ..] => {
                inside |= *single == byte;
                rest
            }
            [] => return None,
        };
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_with_fnmatch() {
        let cases = [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*a*b", "xaybzb", true),
            ("?", "", false),
            ("usb:v1D6Bp*d0[0-2]*", "usb:v1D6Bp0002d0120", true),
            ("usb:v1D6Bp*d0[0-2]*", "usb:v1D6Bp0002d0320", false),
            ("x[!0-9]", "xa", true),
            ("x[^0-9]", "x1", false),
            ("x[]a]", "x]", true),
            ("x[a-", "xa", false),
            ("x[", "xa", false),
            ("x[a-]", "x-", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_look_up_finds_all_that_fit_in_the_order_of_the_file() {
        let aliases = Aliases::parse(
            "# Aliases extracted from modules themselves.\n\
             alias pci:v*d*sv*sd*bc01sc06i01* ahci\n\
             alias pci:v00008086d00002922sv*sd*bc*sc*i* special-sata\n\
             alias pci:v00008086d* ahci\n\
             alias fs-btrfs btrfs\n\
             alias * everything\n\
             alias broken\n",
        );
        let device = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
        assert_eq!(aliases.lookup(device), ["ahci", "special_sata", "everything"]);
        assert_eq!(aliases.lookup("fs-btrfs"), ["btrfs", "everything"]);
        assert_eq!(aliases.lookup("fs_btrfs"), ["btrfs", "everything"]);
        assert_eq!(aliases.lookup("fs-btrf"), ["everything"]);
        assert_eq!(aliases.lookup("pci:v\u{e9}"), ["everything"]);
        assert!(Aliases::parse("").lookup("usb:").is_empty());
    }
}
