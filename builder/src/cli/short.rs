//! Short flags of several letters, which users know: to clap, `-fn` would be `-f -n`.

use std::ffi::OsString;

/// Each, and what it stands for.
pub const SHORT: [(&str, &str); 8] = [
    ("-bc", "--build-controller"),
    ("-bm", "--build-minimal"),
    ("-fn", "--fetch-new"),
    ("-hc", "--health-check"),
    ("-mm", "--menu"),
    ("-ni", "--no-initramfs"),
    ("-nk", "--no-kernel"),
    ("-rpn", "--replace-new"),
];

/// As the original spells the list of states.
const STATES: (&str, &str) = ("--time-state?", "--time-state=?");

/// Arguments with [`SHORT`] ones written out, with the value that may follow (`-bc=DIR`). What comes after `--` is left as
/// it is.
pub fn written_out(args: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut words = false;
    args.into_iter().map(move |arg| {
        words |= arg == "--";
        match arg.to_str().and_then(long) {
            Some(long) if !words => OsString::from(long),
            _ => arg,
        }
    })
}

fn long(arg: &str) -> Option<String> {
    if arg == STATES.0 {
        return Some(STATES.1.to_owned());
    }
    let (flag, value) = match arg.split_once('=') {
        Some((flag, _)) => (flag, arg.get(flag.len()..).unwrap_or_default()),
        None => (arg, ""),
    };
    let (_, long) = SHORT.iter().find(|(short, _)| *short == flag)?;
    Some(format!("{long}{value}"))
}

/// What somebody may have meant by `arg`, which no flag is called.
pub(super) fn meant(arg: &str) -> Option<String> {
    let is_cluster = arg.len() > 2 && arg.starts_with('-') && !arg.starts_with("--");
    let near = |(short, long): &(&str, &str)| {
        let distance = strsim::damerau_levenshtein(arg, short);
        (distance == 1).then(|| format!("{short} ({long})"))
    };
    if is_cluster { SHORT.iter().find_map(near) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_flags_of_several_letters_are_written_out_until_two_dashes() {
        let given = ["gse", "-fn", "-bc=/lib/modules/1", "--time-state?", "-v", "--", "-nk"];
        let written: Vec<_> = written_out(given.map(OsString::from)).collect();
        let expected = [
            "gse",
            "--fetch-new",
            "--build-controller=/lib/modules/1",
            "--time-state=?",
            "-v",
            "--",
            "-nk",
        ];
        assert_eq!(written, expected.map(OsString::from));
    }

    #[test]
    fn a_letter_that_is_wrong_is_told() {
        assert_eq!(meant("-rpm"), Some("-rpn (--replace-new)".to_owned()));
        assert_eq!((meant("-v"), meant("--fn"), meant("-xyz")), (None, None, None));
    }
}
