//! The shared libraries that a program needs, found as the loader would: by reading, not by running it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use globset::Glob;

use super::{Error, elf::Program};

/// glibc loads it when a thread is cancelled or ends itself, without any program naming it.
const UNWINDER: &str = "libgcc_s.so.1";

/// Programs' libraries, as they are to lie in the image.
#[derive(Debug, Default)]
pub(super) struct Libraries {
    search: Vec<PathBuf>,
    loaders: BTreeMap<String, Vec<u8>>,
    libraries: BTreeMap<String, (PathBuf, Vec<u8>)>,
}

impl Libraries {
    /// Directories of this host, in the loader's order.
    pub(super) fn of_host() -> Self {
        let mut search = Vec::new();
        // musl's loader has a file of its own with one directory a line.
        for configuration in ["/etc/ld.so.conf", "/etc/ld-musl-x86_64.path"] {
            configured(Path::new(configuration), &mut search, 0);
        }
        for directory in ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"] {
            search.push(PathBuf::from(directory));
        }
        Self { search, ..Self::default() }
    }

    /// Adds everything that this program needs, and what that needs in turn.
    pub(super) fn add(&mut self, path: &Path, program: &Program) -> Result<(), Error> {
        let loader = program.loader.as_ref().filter(|l| !self.loaders.contains_key(*l));
        if let Some(loader) = loader {
            let content = fs::read(loader).map_err(Error::io("reading", Path::new(loader)))?;
            self.loaders.insert(loader.clone(), content);
        }
        self.add_needs(path, program)?;
        if program.unwinds_threads && !self.libraries.contains_key(UNWINDER) {
            // musl has no such thing.
            if let Some((unwinder, bytes, _)) = self.find(UNWINDER, &[]) {
                self.libraries.insert(UNWINDER.to_owned(), (unwinder, bytes));
            }
        }
        Ok(())
    }

    fn add_needs(&mut self, path: &Path, program: &Program) -> Result<(), Error> {
        let origin = path.parent().unwrap_or(Path::new("/")).to_string_lossy();
        let own: Vec<PathBuf> = program
            .run_path
            .iter()
            .map(|d| PathBuf::from(d.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)))
            .collect();
        for name in &program.needs {
            let is_loader = |loader: &String| loader.rsplit('/').next() == Some(name);
            if self.libraries.contains_key(name) || self.loaders.keys().any(is_loader) {
                continue;
            }
            let Some((found, bytes, library)) = self.find(name, &own) else {
                let searched = own.iter().chain(&self.search);
                return Err(Error::NoLibrary {
                    library: name.clone(),
                    user: path.to_owned(),
                    searched: searched.map(|d| d.display().to_string()).collect(),
                });
            };
            self.libraries.insert(name.clone(), (found.clone(), bytes));
            // A library's thread cancellation is the program's; libc itself defines those symbols.
            self.add(&found, &library)?;
        }
        Ok(())
    }

    /// The first library of that name that is for this processor.
    fn find(&self, name: &str, own: &[PathBuf]) -> Option<(PathBuf, Vec<u8>, Program)> {
        own.iter().chain(&self.search).find_map(|directory| {
            let path = directory.join(name);
            let bytes = fs::read(&path).ok()?;
            let library = Program::parse(&bytes).ok()?;
            Some((path, bytes, library))
        })
    }

    /// Paths in the image, and contents. All libraries go into one directory that the loader searches by
    /// itself, under the names by which they are asked for: there is no ld.so.cache in the image.
    pub(super) fn into_files(self) -> Vec<(String, Vec<u8>)> {
        let directory = self.directory();
        let libraries = self
            .libraries
            .into_iter()
            .map(|(name, (_, bytes))| (format!("{directory}/{name}"), bytes));
        let loaders = self
            .loaders
            .into_iter()
            .map(|(path, bytes)| (path.trim_start_matches('/').to_owned(), bytes));
        libraries.chain(loaders).collect()
    }

    /// glibc's loader has the directories that it trusts built in, each with a `/` at its end.
    fn directory(&self) -> String {
        let home = self.libraries.iter().find(|(name, _)| name.starts_with("libc.so"));
        let home = home.and_then(|(_, (path, _))| path.parent()).map(|p| p.to_string_lossy());
        let home = home.as_deref().unwrap_or("/lib");
        let plain = home.strip_prefix("/usr").unwrap_or(home);
        let usr = format!("/usr{plain}");
        let trusts = |directory: &&str| {
            let entry = format!("{directory}/\0");
            let has = |loader: &Vec<u8>| loader.windows(entry.len()).any(|w| w == entry.as_bytes());
            self.loaders.values().any(has)
        };
        let known = [plain, usr.as_str(), "/lib64", "/usr/lib64", "/lib"];
        known.iter().find(|d| trusts(d)).unwrap_or(&"/lib").trim_start_matches('/').to_owned()
    }
}

/// The directories that an `ld.so.conf` names: see ldconfig(8).
fn configured(file: &Path, directories: &mut Vec<PathBuf>, depth: u8) {
    let Ok(text) = fs::read_to_string(file) else { return };
    for line in text.split(['\n', ':']).map(|l| l.split('#').next().unwrap_or_default().trim()) {
        match line.strip_prefix("include ") {
            Some(pattern) if depth < 8 => {
                let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern.trim());
                for included in expand(&pattern).unwrap_or_default() {
                    configured(&included, directories, depth + 1);
                }
            }
            _ if line.starts_with('/') => directories.push(PathBuf::from(line)),
            _ => {}
        }
    }
}

/// The files that fit a pattern in its last part.
fn expand(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Ok(Vec::new());
    };
    let glob = Glob::new(&name.to_string_lossy()).map_err(io::Error::other)?.compile_matcher();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if glob.is_match(entry.file_name()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn configuration_files_include_others_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("d")).unwrap();
        fs::write(path("ld.so.conf"), "/first # comment\ninclude d/*.conf\n\n/last\n").unwrap();
        fs::write(path("d/b.conf"), "/b\n").unwrap();
        fs::write(path("d/a.conf"), "# nothing\n/a:/a2\n").unwrap();
        fs::write(path("d/c.txt"), "/c\n").unwrap();
        let mut found = Vec::new();
        configured(&path("ld.so.conf"), &mut found, 0);
        assert_eq!(found, ["/first", "/a", "/a2", "/b", "/last"].map(PathBuf::from));
    }

    #[test]
    fn a_configuration_that_includes_itself_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ld.so.conf");
        fs::write(&path, "/a\ninclude ld.so.conf\n").unwrap();
        let mut found = Vec::new();
        configured(&path, &mut found, 0);
        assert!(found.len() < 20 && found.iter().all(|d| d == Path::new("/a")));
    }
}
