//! A kernel's module directory, by the text files that depmod and the kernel's build leave in it.
//!
//! Formats: modules.dep(5) and kmod's depmod.c. In module names `-` and `_` mean the same.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{Error, compressed::Compression};

/// A module's name, with `_` for `-`, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(String);

impl Name {
    pub(super) fn new(text: &str) -> Self {
        Self(text.replace('-', "_"))
    }

    /// From a path such as `kernel/fs/ext4/ext4.ko.xz`; `None` where that is no module.
    fn of_path(path: &str) -> Option<Self> {
        let (path, _) = Compression::split(path);
        let file = path.rsplit('/').next()?;
        file.strip_suffix(".ko").map(Self::new)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A module that is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Relative to the module directory, such as `kernel/fs/ext4/ext4.ko.xz`.
    pub(super) path: String,
    /// Where it lies in the kernel's sources, which also knows modules that an administrator's own
    /// version replaces: `drivers/net/ethernet/intel/e1000e/e1000e.ko`.
    pub(super) origin: String,
    /// What has to be loaded before it.
    pub(super) needs: Vec<Name>,
    /// Names and aliases of modules that it is of no use without, or works better with.
    pub(super) wants: Vec<String>,
}

/// The text files of a module directory.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) dep: String,
    pub(super) alias: String,
    pub(super) softdep: String,
    /// From kmod 33 on.
    pub(super) weakdep: String,
    pub(super) builtin: String,
    pub(super) order: String,
}

/// A kernel's modules.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    pub(super) modules: BTreeMap<Name, Module>,
    pub(super) builtin: BTreeSet<Name>,
    aliases: HashMap<String, Vec<Name>>,
    pub(super) texts: Texts,
}

impl Kernel {
    /// Makes sense of the text files.
    pub(super) fn parse(texts: Texts) -> Self {
        let origins: HashMap<Name, &str> =
            texts.order.lines().filter_map(|line| Some((Name::of_path(line)?, line))).collect();
        let mut modules = BTreeMap::new();
        for line in texts.dep.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let Some(name) = Name::of_path(path) else { continue };
            let origin = origins.get(&name).copied().unwrap_or(path);
            let module = Module {
                path: path.to_owned(),
                origin: origin.strip_prefix("kernel/").unwrap_or(origin).to_owned(),
                needs: needs.split_whitespace().filter_map(Name::of_path).collect(),
                wants: Vec::new(),
            };
            modules.insert(name, module);
        }
        for (name, want) in soft(&texts.softdep).chain(weak(&texts.weakdep)) {
            if let Some(module) = modules.get_mut(&name) {
                module.wants.push(want.to_owned());
            }
        }
        let mut aliases: HashMap<String, Vec<Name>> = HashMap::new();
        for (pattern, name) in texts.alias.lines().filter_map(alias) {
            // Patterns are for the machine's devices; what modules want of each other is spelled out.
            if !pattern.contains(['*', '?', '[']) {
                aliases.entry(pattern.to_owned()).or_default().push(name);
            }
        }
        let builtin = texts.builtin.lines().filter_map(Name::of_path).collect();
        Self { modules, builtin, aliases, texts }
    }

    /// The modules that a name or an alias stands for; `None` when the kernel does not know it. What is
    /// built in is known, and needs no module.
    pub(super) fn resolve(&self, text: &str) -> Option<Vec<Name>> {
        let name = Name::new(text);
        if self.modules.contains_key(&name) {
            return Some(vec![name]);
        }
        if self.builtin.contains(&name) {
            return Some(Vec::new());
        }
        self.aliases.get(text).cloned()
    }
}

/// `softdep NAME pre: A B post: C`: pairs of NAME and A, B, C.
fn soft(text: &str) -> impl Iterator<Item = (Name, &str)> {
    text.lines().filter_map(|l| l.strip_prefix("softdep ")).flat_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().map(Name::new);
        let wants = words.skip_while(|w| !is_label(w)).filter(|w| !is_label(w));
        name.into_iter().flat_map(move |name| wants.clone().map(move |w| (name.clone(), w)))
    })
}

fn is_label(word: &str) -> bool {
    matches!(word, "pre:" | "post:")
}

/// `weakdep NAME A B`
fn weak(text: &str) -> impl Iterator<Item = (Name, &str)> {
    text.lines().filter_map(|l| l.strip_prefix("weakdep ")).flat_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().map(Name::new);
        name.into_iter().flat_map(move |name| words.clone().map(move |w| (name.clone(), w)))
    })
}

/// `alias PATTERN NAME`
pub(super) fn alias(line: &str) -> Option<(&str, Name)> {
    let (pattern, name) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
    Some((pattern, Name::new(name)))
}

/// A module directory on disk.
#[derive(Debug)]
pub(super) struct ModuleDirectory {
    pub(super) path: PathBuf,
    /// Its name, which is what `uname -r` says of its kernel.
    pub(super) release: String,
}

impl ModuleDirectory {
    /// The directory that `--build-controller=MODDIR` means: a path, a release below `/lib/modules`, or
    /// the running kernel's.
    pub(super) fn find(asked: Option<&Path>) -> Result<Self, Error> {
        let installed = Path::new("/lib/modules");
        let path = match asked {
            None => {
                let uname = rustix::system::uname();
                installed.join(uname.release().to_string_lossy().as_ref())
            }
            Some(path) if path.components().count() == 1 && !path.exists() => installed.join(path),
            Some(path) => path.to_owned(),
        };
        let release = path.file_name().map(|n| n.to_string_lossy().into_owned());
        match release {
            Some(release) if path.is_dir() => Ok(Self { path, release }),
            _ => Err(Error::NoModuleDirectory { path, others: names_in(installed) }),
        }
    }

    /// Reads the text files.
    pub(super) fn read(&self) -> Result<Kernel, Error> {
        let read = |name: &str| {
            let path = self.path.join(name);
            match fs::read_to_string(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                result => result.map(Some).map_err(Error::io("reading", &path)),
            }
        };
        let Some(dep) = read("modules.dep")? else {
            let (path, release) = (self.path.clone(), self.release.clone());
            return Err(Error::NotIndexed { path, release });
        };
        Ok(Kernel::parse(Texts {
            dep,
            alias: read("modules.alias")?.unwrap_or_default(),
            softdep: read("modules.softdep")?.unwrap_or_default(),
            weakdep: read("modules.weakdep")?.unwrap_or_default(),
            builtin: read("modules.builtin")?.unwrap_or_default(),
            order: read("modules.order")?.unwrap_or_default(),
        }))
    }

    /// Refuses a kernel whose configuration is at hand and says that it cannot read the image. Without a
    /// configuration it is taken to be able to, as every distribution's is.
    pub(super) fn check_config(&self) -> Result<(), Error> {
        let name = format!("config-{}", self.release);
        let beside = self.path.join("../../../boot").join(&name);
        let places = [self.path.join("config"), beside, Path::new("/boot").join(&name)];
        for config in places {
            let Ok(text) = fs::read_to_string(&config) else { continue };
            for option in ["CONFIG_BLK_DEV_INITRD", "CONFIG_RD_ZSTD"] {
                if !text.lines().any(|line| line.strip_prefix(option) == Some("=y")) {
                    return Err(Error::KernelCannot { config, option });
                }
            }
            break;
        }
        Ok(())
    }

    /// Where firmware for it is: in the system that it belongs to, else on this host.
    pub(super) fn firmware(&self) -> PathBuf {
        let own = self.path.join("../../firmware");
        let host = PathBuf::from("/lib/firmware");
        if own.is_dir() { own } else { host }
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
