//! Scripts of one's own around hook points: `--sdir=DIR --do="a,b c" -g="-gparta,+gcat"`.
//!
//! The lists in `--do` are separated by spaces, the hook points in `-g` by commas, and the first list goes
//! with the first hook point: in the example `a` and `b` run before part A, `c` after gcat.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Options,
    hook::{Hook, Unknown},
    log::Mode,
    run::Cmd,
};

/// Before or after a hook point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// `-`
    Before,
    /// `+`
    After,
}

impl Side {
    /// That of a step's id, such as `-gparta:script`.
    pub fn of(step: &str) -> Self {
        if step.starts_with('-') { Self::Before } else { Self::After }
    }

    /// For scripts, in `GSE_SIDE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// What runs a script, with what it is told of the build in its environment. With `--verbose` it shows its own commands too.
pub(super) fn command(options: &Options, script: &Path, hook: Hook, side: Side) -> Cmd {
    let bash = Cmd::new("bash");
    let bash = if options.mode == Mode::Verbose { bash.arg("-x") } else { bash };
    bash.path(script)
        .env("GSE_HOOK", hook.name())
        .env("GSE_SIDE", side.word())
        .env("GSE_BASE", options.base.name())
}

/// A hook point and a side of it, as in `-gparta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Of the hook point.
    pub side: Side,
    /// Around which the scripts are.
    pub hook: Hook,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.side {
            Side::Before => '-',
            Side::After => '+',
        };
        write!(f, "{sign}{}", self.hook)
    }
}

/// Which scripts run where, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripts {
    /// Where they all are, as an absolute path.
    pub folder: PathBuf,
    /// Each with its names in [`Scripts::folder`].
    pub at: Vec<(Place, Vec<String>)>,
}

/// What is wrong with the three flags.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The numbers differ.
    #[error(
        "--do and -g go together one to one: each list between spaces of --do belongs to the hook point between the \
         commas of -g in the same place. This is how they pair now:\n{0}"
    )]
    Pairing(String),
    /// A hook point without its sign.
    #[error(
        "{0:?} in -g has no sign: write -{0} for scripts before that hook point, +{0} for scripts after it"
    )]
    Sign(String),
    /// No such hook point.
    #[error(transparent)]
    Hook(#[from] Unknown),
    /// The folder is not there.
    #[error("--sdir={0}: there is no such directory")]
    Folder(PathBuf, #[source] std::io::Error),
    /// A script is not there.
    #[error("{0}, of --do, is no file in the directory of --sdir")]
    Missing(PathBuf),
    /// A name that leads elsewhere.
    #[error(
        "{0:?}, of --do, has to be the name of a file in the directory of --sdir, without a path"
    )]
    Path(String),
}

impl Scripts {
    /// Reads the three flags, and makes sure that every script is there.
    ///
    /// # Errors
    /// If the lists do not pair, a hook point is unknown, or a script is missing.
    pub fn load(folder: &Path, lists: &str, places: &str) -> Result<Self, Error> {
        let missing = |e| Error::Folder(folder.to_owned(), e);
        let folder = folder.canonicalize().map_err(missing)?;
        let at = pair(lists, places)?;
        for name in at.iter().flat_map(|(_, names)| names) {
            if name.contains('/') || name == "." || name == ".." {
                return Err(Error::Path(name.clone()));
            }
            let path = folder.join(name);
            if !path.is_file() {
                return Err(Error::Missing(path));
            }
        }
        Ok(Self { folder, at })
    }

    /// The scripts of one place.
    pub fn of(&self, place: Place) -> impl Iterator<Item = &str> {
        self.at.iter().filter(move |(at, _)| *at == place).flat_map(|(_, n)| n).map(String::as_str)
    }

    /// What the local directory's `doscripts` says.
    pub fn listing(&self) -> String {
        let mut text = "# Requested Scripts\n# Hook:Script\n".to_owned();
        for (place, names) in &self.at {
            for name in names {
                text.push_str(&format!("{place}:{name}\n"));
            }
        }
        text
    }

    /// Writes [`Scripts::listing`] to `file`, or removes the file if there are no scripts.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_listing(&self, file: &Path) -> std::io::Result<()> {
        if !self.at.is_empty() {
            return fs::write(file, self.listing());
        }
        match fs::remove_file(file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// The lists of `--do` with the hook points of `-g`.
fn pair(lists: &str, places: &str) -> Result<Vec<(Place, Vec<String>)>, Error> {
    let lists: Vec<&str> = lists.split_whitespace().collect();
    let places: Vec<&str> = places.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    if lists.len() != places.len() {
        return Err(Error::Pairing(picture(&lists, &places)));
    }
    let mut at = Vec::new();
    for (list, place) in lists.into_iter().zip(places) {
        let names = list.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        at.push((parse_place(place)?, names.collect()));
    }
    Ok(at)
}

fn parse_place(text: &str) -> Result<Place, Error> {
    let (side, name) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(name), _) => (Side::Before, name),
        (_, Some(name)) => (Side::After, name),
        _ => return Err(Error::Sign(text.to_owned())),
    };
    Ok(Place { side, hook: name.parse()? })
}

/// One line for each pair, with a gap where the other half is missing.
fn picture(lists: &[&str], places: &[&str]) -> String {
    const GAP: &str = "(nothing)";
    let lines = (0..lists.len().max(places.len())).map(|i| {
        let place = places.get(i).copied().unwrap_or(GAP);
        format!("  {place:<16} {}", lists.get(i).copied().unwrap_or(GAP))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        parse_place(text).unwrap()
    }

    #[test]
    fn spaces_of_do_pair_with_commas_of_g() {
        let pairs =
            pair("script1,script2 script3 script4,script5", "-gparta,-gseed,+gprec").unwrap();
        let expected = vec![
            (place("-gparta"), vec!["script1".to_owned(), "script2".to_owned()]),
            (place("-gseed"), vec!["script3".to_owned()]),
            (place("+gprec"), vec!["script4".to_owned(), "script5".to_owned()]),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(place("+extr").to_string(), "+gextr");
    }

    #[test]
    fn lists_that_do_not_pair_are_shown_beside_each_other() {
        let error = pair("a,b c", "-gparta").unwrap_err().to_string();
        assert!(error.contains("-gparta          a,b\n"), "{error}");
        assert!(error.contains("(nothing)        c"), "{error}");
        let error = pair("a", "-gparta,+gextr").unwrap_err().to_string();
        assert!(error.contains("+gextr           (nothing)"), "{error}");
    }

    #[test]
    fn a_hook_point_needs_its_sign_and_has_to_exist() {
        assert!(matches!(pair("a", "gparta"), Err(Error::Sign(_))));
        assert!(matches!(pair("a", "-gpartz"), Err(Error::Hook(_))));
    }

    #[test]
    fn scripts_must_be_files_of_their_directory() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        let load = |lists: &str| Scripts::load(folder.path(), lists, "-gparta");
        let scripts = load("a,a").unwrap();
        assert_eq!(scripts.of(place("-gparta")).collect::<Vec<_>>(), ["a", "a"]);
        assert_eq!(scripts.of(place("+gparta")).count(), 0);
        assert_eq!(scripts.listing(), "# Requested Scripts\n# Hook:Script\n-gparta:a\n-gparta:a\n");
        assert!(matches!(load("b"), Err(Error::Missing(_))));
        assert!(matches!(load("c"), Err(Error::Missing(_))));
        assert!(matches!(load("../a"), Err(Error::Path(_))));
        let nowhere = Scripts::load(&folder.path().join("x"), "a", "-gparta");
        assert!(matches!(nowhere, Err(Error::Folder(..))));
    }

    #[test]
    fn the_list_of_scripts_goes_when_there_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("doscripts");
        let at = vec![(place("-gparta"), vec!["a".to_owned()])];
        Scripts { folder: PathBuf::new(), at }.write_listing(&file).unwrap();
        assert!(file.exists());
        Scripts::default().write_listing(&file).unwrap();
        Scripts::default().write_listing(&file).unwrap();
        assert!(!file.exists());
    }
}
