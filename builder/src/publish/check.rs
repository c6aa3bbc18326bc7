//! Finds every mistake in a `config.d`, before any machine does.

use std::path::Path;

use gse_protocol::config::{
    Error as Mistake,
    bundle::{FILES, Files, mistakes},
};

use super::{Error, load};

/// The files of `config` that machines receive, or every mistake in them.
pub fn check(config: &Path) -> Result<Files, Error> {
    let load::Loaded { files, mistakes: mut found } =
        load::load(config).map_err(|e| Error::Load(config.to_owned(), e))?;
    // What could not be read is told already; that it is missing would only be an echo.
    let told: Vec<String> = found.iter().map(|m| m.file.clone()).collect();
    found.extend(mistakes(&files).into_iter().filter(|m| !told.contains(&m.file)));
    found.extend(files.keys().filter_map(|path| unknown(path)));
    found.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    if found.is_empty() { Ok(files) } else { Err(Error::Mistakes(found)) }
}

/// A file that no machine would read: most likely its name has a typo, and its settings would be
/// silently missing.
fn unknown(path: &str) -> Option<Mistake> {
    let own = path.strip_prefix("controller/").filter(|p| !p.starts_with("system/"))?;
    if FILES.contains(&path) || !own.ends_with(".toml") {
        return None;
    }
    let nearest = FILES.iter().min_by_key(|known| strsim::damerau_levenshtein(known, path));
    Some(Mistake {
        suggestion: nearest.map(|n| (*n).to_owned()),
        ..Mistake::new(path, "no machine reads a file of this name")
    })
}
