//! `links`: symbolic links, and mounts in the short form that administrators of the first GSE know.
//!
//! The mounts are the same as those of `mounts.toml`, and come after them.

use super::text::{self, Wrong, absolute};
use crate::config::{
    Error,
    mounts::{Bind, Mode, Overlay, Tmpfs},
    near,
};

/// What the file has, each in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// `symlink`
    pub symlinks: Vec<Symlink>,
    /// `bindmount`
    pub binds: Vec<Bind>,
    /// `overlay`
    pub overlays: Vec<Overlay>,
    /// `tmpfs`
    pub tmpfs: Vec<Tmpfs>,
}

/// `symlink f=y|n TARGET LINK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symlink {
    /// What the link says.
    pub target: String,
    /// Where it is, relative to the system's root.
    pub link: String,
    /// Whether it takes the place of a file or link that the image has there.
    pub force: bool,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Symlink(Symlink),
    Bind(Bind),
    Overlay(Overlay),
    Tmpfs(Tmpfs),
}

/// Reads the file.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(file: &str, text: &str) -> Result<Links, Error> {
    let mut links = Links::default();
    for line in text::parse(file, text, |_, text| line(text))? {
        match line {
            Line::Symlink(symlink) => links.symlinks.push(symlink),
            Line::Bind(bind) => links.binds.push(bind),
            Line::Overlay(overlay) => links.overlays.push(overlay),
            Line::Tmpfs(tmpfs) => links.tmpfs.push(tmpfs),
        }
    }
    Ok(links)
}

pub(super) fn line(text: &str) -> Result<Line, Wrong> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let path = |path: &str| absolute(path).map(|below| format!("/{below}"));
    match words.as_slice() {
        ["symlink", force, target, link] => {
            if target.contains(char::is_control) {
                return Err(Wrong::new(format!("{target:?} is no target for a link")));
            }
            let (target, link) = ((*target).to_owned(), absolute(link)?);
            Ok(Line::Symlink(Symlink { target, link, force: yes_or_no(force)? }))
        }
        ["bindmount", force, from, to] => {
            let options = String::new();
            Ok(Line::Bind(Bind {
                from: path(from)?,
                to: path(to)?,
                make: yes_or_no(force)?,
                options,
            }))
        }
        ["overlay", lower, upper, work] => Ok(Line::Overlay(Overlay {
            lower: path(lower)?,
            upper: path(upper)?,
            work: path(work)?,
        })),
        ["tmpfs", at, options @ ..] => tmpfs(path(at)?, options).map(Line::Tmpfs),
        ["symlink", ..] => {
            Err(Wrong::new("a line is symlink f=y TARGET LINK, or symlink f=n TARGET LINK"))
        }
        ["bindmount", ..] => {
            Err(Wrong::new("a line is bindmount f=y FROM TO, or bindmount f=n FROM TO"))
        }
        ["overlay", ..] => Err(Wrong::new("a line is overlay LOWER UPPER WORK")),
        _ => {
            let word = words.first().copied().unwrap_or_default();
            let near = near(word, ["symlink", "bindmount", "overlay", "tmpfs"]).map(str::to_owned);
            Err(Wrong { message: format!("there is no kind of link named {word:?}"), near })
        }
    }
}

fn yes_or_no(word: &str) -> Result<bool, Wrong> {
    match word {
        "f=y" => Ok(true),
        "f=n" => Ok(false),
        _ => Err(Wrong::new(format!("{word:?} is neither f=y nor f=n"))),
    }
}

/// Options as mount(8) has them: `size=64M,mode=0755`, and `keep` for the image's content.
fn tmpfs(path: String, options: &[&str]) -> Result<Tmpfs, Wrong> {
    let mut tmpfs = Tmpfs { path, size: None, mode: Mode::default(), keep: false, archive: None };
    for option in options.iter().flat_map(|word| word.split(',')).filter(|word| !word.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", size) => {
                let size = size.to_ascii_uppercase();
                tmpfs.size = Some(size.parse().map_err(|e: String| Wrong::new(e))?);
            }
            ("mode", mode) => {
                tmpfs.mode = Mode::try_from(mode.to_owned()).map_err(Wrong::new)?;
            }
            ("keep", "") => tmpfs.keep = true,
            (name, _) => {
                let near = near(name, ["size", "mode", "keep"]).map(str::to_owned);
                return Err(Wrong { message: format!("tmpfs has no option {name}"), near });
            }
        }
    }
    Ok(tmpfs)
}
