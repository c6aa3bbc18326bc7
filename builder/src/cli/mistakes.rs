//! Mistakes in the command line, as people are told about them.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::short::meant;

/// One that comes to light only when the command is about to begin. Like those of the parser it ends with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

/// One of the parser.
pub(super) fn mistake(kind: ErrorKind, text: &str) -> clap::Error {
    clap::Error::raw(kind, format!("{text}\n"))
}

/// What clap says, where it does not know what people know of these flags.
pub(super) fn explained(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let invalid = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => vec![arg.clone()],
        Some(ContextValue::Strings(args)) => args.clone(),
        _ => Vec::new(),
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            // Clap names the first letter of an unknown cluster; people know whole ones.
            let cluster = |arg: &str| invalid.iter().any(|letter| arg.starts_with(letter));
            let texts = args.iter().skip(1).filter_map(|arg| arg.to_str());
            let found = texts.filter(|arg| cluster(arg)).find_map(|arg| Some((arg, meant(arg)?)));
            if let Some((arg, flag)) = found {
                let text = format!(
                    "there is no flag {arg}: did you mean {flag}? gse --help lists the topics"
                );
                return mistake(ErrorKind::UnknownArgument, &text);
            }
            // Words without a flag are scripts of --hook, and nobody means those.
            if invalid.iter().any(|arg| !arg.starts_with("--")) {
                error.remove(ContextKind::Suggested);
            }
            error
        }
        // They are the only words without a flag.
        ErrorKind::MissingRequiredArgument
            if invalid.iter().any(|arg| arg.starts_with("--hook")) =>
        {
            let text = "a word without a flag is a script of --hook, and there is none: does a flag lack its -- or its =? \
                        gse --help lists the topics";
            mistake(ErrorKind::UnknownArgument, text)
        }
        _ => error,
    }
}
