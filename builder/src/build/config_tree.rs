//! `config.d/system`: what a system is built from, read and checked before anything is done.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use gse_protocol::{
    Sha256,
    config::{Error as Mistake, bundle::File},
    digest::Hasher,
};

use super::{
    catalyst::{
        Catalyst,
        conf::Conf,
        spec::{Spec, Target as StageTarget},
    },
    config::Build,
    config_lists::{self, Inject, Runlevel},
    config_names::{CATALYST_CONF, CATALYSTRC, SCRIPTS, Target, target, unknown},
};

/// Everything below `config.d/system`.
#[derive(Debug, Clone, PartialEq)]
pub struct System {
    /// The folder itself, as an absolute path.
    pub folder: PathBuf,
    /// `build.toml`
    pub build: Build,
    /// `catalyst/`
    pub catalyst: Catalyst,
    /// `packages`
    pub packages: Vec<String>,
    /// `runlevels`
    pub runlevels: Vec<Runlevel>,
    /// `inject`
    pub inject: Vec<Inject>,
    /// Where each configuration file goes, relative to the root of the system: `portage/` to
    /// `/etc/portage`, `files/` to the root, and those that have names of their own.
    pub files: BTreeMap<String, File>,
    /// The SHA-256 of everything, by which a changed configuration is noticed.
    pub digest: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("reading the configuration {0}")]
    Io(PathBuf, #[source] io::Error),
    /// Something is wrong in it.
    #[error("the configuration has mistakes:\n{}", lines(.0))]
    Mistakes(Vec<Mistake>),
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|m| format!("  {m}")).collect::<Vec<_>>().join("\n")
}

impl System {
    /// Reads `config.d/system`. A part that is missing is empty.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(config: &Path) -> Result<Self, Error> {
        let failed = |path: &Path, e| Error::Io(path.to_owned(), e);
        let folder = config.join("system");
        let folder = folder.canonicalize().map_err(|e| failed(&folder, e))?;
        let mut found = BTreeMap::new();
        read_folder(&folder, "", &mut found).map_err(|(path, e)| failed(&path, e))?;
        Self::from_files(folder, found).map_err(Error::Mistakes)
    }

    fn from_files(folder: PathBuf, found: BTreeMap<String, File>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let digest = digest(&found);
        let build = keep(&mut mistakes, text(&found, "build.toml").and_then(|t| Build::parse(&t)));
        let packages = text(&found, "packages").and_then(|t| config_lists::packages(&t));
        let packages = keep(&mut mistakes, packages);
        let runlevels = text(&found, "runlevels").and_then(|t| config_lists::runlevels(&t));
        let runlevels = keep(&mut mistakes, runlevels);
        let inject = text(&found, "inject").and_then(|t| config_lists::inject(&t));
        let inject = keep(&mut mistakes, inject);
        let catalyst = catalyst(&folder, &found, &mut mistakes);
        let mut files = BTreeMap::new();
        for (name, file) in found {
            match target(&name) {
                Target::Own => {}
                Target::At(path) => {
                    let mut file = file;
                    if name.starts_with(SCRIPTS) {
                        file.mode |= 0o111;
                    }
                    if files.insert(path.clone(), file).is_some() {
                        let message = format!("another file goes to /{path} too: keep one of them");
                        mistakes.push(Mistake::new(&format!("system/{name}"), message));
                    }
                }
                Target::Unknown => mistakes.push(unknown(&name)),
            }
        }
        if mistakes.is_empty() {
            Ok(Self { folder, build, catalyst, packages, runlevels, inject, files, digest })
        } else {
            Err(mistakes)
        }
    }
}

/// catalyst's configuration and specs.
fn catalyst(
    folder: &Path,
    found: &BTreeMap<String, File>,
    mistakes: &mut Vec<Mistake>,
) -> Catalyst {
    let conf = keep(mistakes, text(found, CATALYST_CONF).and_then(|t| Conf::parse(&t)));
    let mut specs = Vec::new();
    for target in StageTarget::ALL {
        let name = format!("catalyst/{}", target.file());
        if found.contains_key(&name) {
            match text(found, &name).and_then(|t| Spec::parse(target, &t)) {
                Ok(spec) => specs.push(spec),
                Err(mistake) => mistakes.push(mistake),
            }
        }
    }
    mistakes.extend(Spec::check_chain(&specs).err());
    let environment = found.contains_key(CATALYSTRC).then(|| folder.join(CATALYSTRC));
    Catalyst { conf, specs, environment }
}

fn keep<T: Default>(mistakes: &mut Vec<Mistake>, result: Result<T, Mistake>) -> T {
    result.unwrap_or_else(|mistake| {
        mistakes.push(mistake);
        T::default()
    })
}

/// The text of a file, empty if it is missing.
fn text(files: &BTreeMap<String, File>, name: &str) -> Result<String, Mistake> {
    let full = format!("system/{name}");
    let bytes = files.get(name).map_or(&[][..], |file| &file.bytes);
    gse_protocol::config::toml_text(&full, bytes).map(std::borrow::Cow::into_owned)
}

fn digest(files: &BTreeMap<String, File>) -> String {
    let mut hasher = Hasher::default();
    for (name, file) in files {
        hasher.update(format!("{name}\0{:o}\0{}\0", file.mode, file.bytes.len()).as_bytes());
        hasher.update(&file.bytes);
    }
    let digest: Sha256 = hasher.finish();
    digest.to_string()
}

/// All files below a folder by their path in it. Links are followed: they may lead anywhere on this machine.
fn read_folder(
    folder: &Path,
    prefix: &str,
    found: &mut BTreeMap<String, File>,
) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |e| (path, e)
    };
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            (path.clone(), io::Error::new(io::ErrorKind::InvalidData, "its name is not in UTF-8"))
        })?;
        let name = format!("{prefix}{name}");
        let metadata = fs::metadata(&path).map_err(at(&path))?;
        if metadata.is_dir() {
            read_folder(&path, &format!("{name}/"), found)?;
        } else if metadata.is_file() {
            let bytes = fs::read(&path).map_err(at(&path))?;
            found.insert(name, File { mode: metadata.permissions().mode() & 0o755, bytes });
        } else {
            return Err((
                path,
                io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> Result<System, Error> {
        let config = tempfile::tempdir().unwrap();
        fs::create_dir(config.path().join("system")).unwrap();
        for (name, content) in files {
            let path = config.path().join("system").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        System::load(config.path())
    }

    #[test]
    fn files_go_where_their_names_say() {
        let system = system(&[
            ("portage/package.use/lab", "a/b c\n"),
            ("files/etc/motd", "hello\n"),
            ("timezone", "Europe/Athens\n"),
            ("packages", "a/b\n"),
            ("scripts/quota", "#!/bin/sh\n"),
            ("scripts/bye.stop", "#!/bin/sh\n"),
            ("keys/lab.asc", ""),
        ])
        .unwrap();
        let targets: Vec<_> = system.files.keys().map(String::as_str).collect();
        let expected = [
            "etc/local.d/bye.stop",
            "etc/local.d/quota.start",
            "etc/motd",
            "etc/portage/package.use/lab",
            "etc/timezone",
        ];
        assert_eq!(targets, expected);
        let mode = |path: &str| system.files.get(path).unwrap().mode;
        assert_eq!((mode("etc/local.d/quota.start"), mode("etc/motd")), (0o755, 0o644));
        assert_eq!(system.packages, ["a/b"]);
        assert_eq!(system.build, Build::default());
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let wrong = system(&[
            ("build.toml", "[portag]\n"),
            ("packages", "a b\n"),
            ("runlevels", "x\n"),
            ("timezon", "UTC\n"),
            ("hosts", ""),
            ("files/etc/hosts", ""),
        ]);
        let error = wrong.unwrap_err().to_string();
        for expected in [
            "system/build.toml:1:",
            "system/packages:1:",
            "system/runlevels:1:",
            "did you mean `system/timezone`?",
            "another file goes to /etc/hosts too",
        ] {
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_default_configuration_is_the_default_and_each_of_its_settings_can_be_switched_on() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.d");
        let system = System::load(&config).unwrap();
        assert_eq!(system.build, Build::default());
        assert_eq!((system.packages.len(), system.runlevels.len(), system.inject.len()), (0, 0, 0));
        let targets: Vec<_> = system.catalyst.specs.iter().map(|spec| spec.target).collect();
        assert_eq!(targets, [StageTarget::Stage1, StageTarget::Stage3]);
        let on = |name: &str| {
            let text = fs::read_to_string(config.join("system").join(name)).unwrap();
            let line = |line: &str| match line.strip_prefix('#') {
                Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => {
                    setting.to_owned()
                }
                _ => line.to_owned(),
            };
            text.lines().map(line).collect::<Vec<_>>().join("\n")
        };
        Conf::parse(&on("catalyst/catalyst.conf")).unwrap();
        let build = Build::parse(&on("build.toml")).unwrap();
        // What is shown as an example, and not as what holds.
        let shown = Build {
            distcc: build.distcc.clone(),
            ccache: build.ccache.clone(),
            portage: build.portage.clone(),
            kernel: build.kernel.clone(),
            initramfs: build.initramfs.clone(),
            locale: build.locale.clone(),
            clean: build.clean.clone(),
            ..Build::default()
        };
        assert_eq!(build, shown);
        assert!(
            build.portage.profile.is_some()
                && build.locale.lang.is_some()
                && !build.clean.share.is_empty()
        );
        assert!(!build.distcc.hosts.is_empty() && build.initramfs.by.is_some());
        assert_eq!(config_lists::packages(&on("packages")).unwrap().len(), 3);
        assert_eq!(config_lists::runlevels(&on("runlevels")).unwrap().len(), 2);
        assert_eq!(config_lists::inject(&on("inject")).unwrap().len(), 1);
    }

    #[test]
    fn any_change_is_seen_in_the_digest() {
        let digest = |files: &[(&str, &str)]| system(files).unwrap().digest;
        let first = digest(&[("hosts", "a")]);
        assert_eq!(first, digest(&[("hosts", "a")]));
        assert_ne!(first, digest(&[("hosts", "b")]));
        assert_ne!(first, digest(&[("hostname", "a")]));
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error = System::load(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/system"), "{error}");
    }
}
