//! Kernel modules: found by modalias, loaded with what they depend on.
//!
//! What `modprobe` and `udev` do, from the text files that depmod writes. [`Drivers`] answers which
//! modules a device or a name needs, in which order, and loads them; [`Hotplug`] does that for each
//! device that the kernel announces, and wakes whoever waits for one.

mod alias;
mod coldplug;
mod hotplug;
mod modules;
mod plan;
mod rules;
mod uevent;

use std::{
    collections::HashSet,
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::errno::Errno;

pub use self::hotplug::{Hotplug, HotplugError};
use self::{
    alias::Aliases,
    modules::{ModuleId, Modules},
    rules::{Rules, SoftDependencies},
};
use crate::{cmdline::CmdLine, log::Log, sys::kmod};

/// A bus driver reveals devices whose drivers may reveal more. Nothing real is nested deeper: what is
/// revealed later is announced as an event.
const COLDPLUG_PASSES: usize = 8;

/// The modules of one kernel, and what has been loaded of them. May be shared between threads.
///
/// The default has none: who asks for one is told that there is no such module.
pub struct Drivers {
    directory: PathBuf,
    modules: Modules,
    /// Parsed by the first who needs them: filesystems are loaded by name, and need not wait for it.
    aliases: Later<Aliases>,
    rules: Rules,
}

/// Where the kernel shows each module, from the moment when others can use its symbols.
const KNOWN: &str = "/sys/module";

type Later<T> = LazyLock<T, Box<dyn FnOnce() -> T + Send>>;

impl Default for Drivers {
    /// A kernel without modules.
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            modules: Modules::default(),
            aliases: LazyLock::new(Box::new(Aliases::default)),
            rules: Rules::default(),
        }
    }
}

impl Drivers {
    /// Reads what depmod wrote in `ROOT/lib/modules/RELEASE`, and the rules of `modprobe.d` and of the
    /// kernel command line. A directory or file that is missing has nothing in it: a kernel without
    /// modules works as well.
    pub fn open(root: &Path, release: &str, cmdline: &CmdLine, log: &Log) -> Self {
        let directory = ["lib/modules", "usr/lib/modules"]
            .map(|folder| root.join(folder).join(release))
            .into_iter()
            .find(|d| d.is_dir())
            .unwrap_or_else(|| root.join("lib/modules").join(release));
        let read = |name: &str| read_optional(&directory.join(name), log);
        let modules = Modules::parse(read("modules.dep"), &read("modules.builtin"));
        let text = read("modules.alias");
        let aliases = LazyLock::new(Box::new(move || Aliases::parse(&text)) as Box<_>);
        let mut rules = Rules::default();
        rules.add_file(&read("modules.softdep"));
        for file in rules::files(root) {
            rules.add_file(&read_optional(&file, log));
        }
        rules.add_cmdline(cmdline);
        log.debug(format_args!("{} modules in {}", modules.len(), directory.display()));
        Self { directory, modules, aliases, rules }
    }

    /// Loads what a device with this modalias needs, and says how many modules that added. Modules that
    /// a `blacklist` names are left out. What fails is logged.
    pub fn load_for(&self, modalias: &str, log: &Log) -> usize {
        let plan = self.plan_all(&self.for_modalias(modalias));
        plan.into_iter().filter(|module| self.load(*module, log) == Some(true)).count()
    }

    /// Loads the module of this name, or those of this alias (`fs-btrfs`, `crypto-crc32c`), and says
    /// whether all of them are in the kernel now. A `blacklist` is about aliases only, as with modprobe.
    pub fn load_named(&self, name: &str, log: &Log) -> bool {
        if self.modules.is_builtin(name) {
            return true;
        }
        let wanted = self.named(name);
        if wanted.is_empty() {
            log.debug(format_args!("no kernel module is called {name}"));
            return false;
        }
        for module in self.plan_all(&wanted) {
            self.load(module, log);
        }
        wanted.iter().all(|module| self.modules.outcome(*module) == Some(true))
    }

    /// Loads the modules of these names with all that they need, each in a thread of its own: the kernel reads and checks
    /// one while another tests which algorithm is quickest. Returns when all of them are loaded.
    pub fn load_at_once(&self, names: &[String], log: &Log) {
        let plan = self.side_by_side(names);
        thread::scope(|scope| {
            for (module, first) in &plan {
                let load = move || {
                    for first in first {
                        self.load(*first, log);
                    }
                    self.load(*module, log);
                };
                if thread::Builder::new().spawn_scoped(scope, load).is_err() {
                    load();
                }
            }
        });
    }

    /// What is loaded for these names, and what of it has to be ready before each: a module's symbols are waited for by the
    /// kernel, but not what it looks for when it starts, such as libcrc32c for an algorithm.
    fn side_by_side(&self, names: &[String]) -> Vec<(ModuleId, Vec<ModuleId>)> {
        let wanted: Vec<_> = names.iter().flat_map(|name| self.named(name)).collect();
        let mut plan: Vec<(ModuleId, Vec<ModuleId>)> = Vec::new();
        for module in self.plan_all(&wanted) {
            let mut first = self.softly(module, |soft| &soft.pre);
            // Those that come later are part of a circle, in which nobody may wait.
            first.retain(|first| plan.iter().any(|(earlier, _)| earlier == first));
            plan.push((module, first));
        }
        plan
    }

    /// The files that [`Drivers::load_at_once`] would load, each with those that have to be ready before.
    pub fn plan_at_once(&self, names: &[String]) -> Vec<(&str, Vec<&str>)> {
        let path = |module| self.modules.path(module);
        let plan = self.side_by_side(names).into_iter();
        plan.map(|(module, first)| (path(module), first.into_iter().map(path).collect())).collect()
    }

    /// The files that [`Drivers::load_for`] would load, in order, relative to the modules' directory.
    pub fn plan_for(&self, modalias: &str) -> Vec<&str> {
        self.paths(&self.for_modalias(modalias))
    }

    /// The files that [`Drivers::load_named`] would load, in order, relative to the modules' directory.
    pub fn plan_named(&self, name: &str) -> Vec<&str> {
        self.paths(&self.named(name))
    }

    /// Loads the drivers of all devices that are there, in a few passes, until no new ones appear.
    ///
    /// `sys` is where sysfs is mounted. `go_on` is asked before each module.
    pub fn coldplug(&self, sys: &Path, log: &Log, go_on: &(dyn Fn() -> bool + Sync)) {
        if self.modules.len() == 0 {
            return;
        }
        let mut seen = HashSet::new();
        for _ in 0..COLDPLUG_PASSES {
            let mut found = Vec::new();
            coldplug::modaliases(sys, &mut |modalias| {
                if !seen.contains(modalias) {
                    seen.insert(modalias.to_owned());
                    found.push(modalias.to_owned());
                }
            });
            if found.is_empty() || !go_on() {
                return;
            }
            self.load_each(&found, log, go_on);
        }
    }

    /// A driver's start can wait for its hardware for seconds, so several are started at once.
    fn load_each(&self, modaliases: &[String], log: &Log, go_on: &(dyn Fn() -> bool + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(modalias) = modaliases.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !go_on() {
                    return;
                }
                self.load_for(modalias, log);
            }
        };
        let helpers = thread::available_parallelism().map_or(1, |n| n.get()).min(4) - 1;
        thread::scope(|scope| {
            for _ in 0..helpers {
                // Without a helper thread this one does all of it.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
    }

    /// modprobe's order of looking: the administrator's aliases, names, the modules' own aliases.
    fn named(&self, name: &str) -> Vec<ModuleId> {
        let configured = self.modules_of(self.rules.aliases.lookup(name));
        if !configured.is_empty() {
            return self.without_blacklisted(configured);
        }
        match self.modules.find(name) {
            Some(module) => vec![module],
            None => self.without_blacklisted(self.modules_of(self.aliases.lookup(name))),
        }
    }

    fn for_modalias(&self, modalias: &str) -> Vec<ModuleId> {
        self.without_blacklisted(self.named(modalias))
    }

    fn modules_of<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<ModuleId> {
        names.into_iter().filter_map(|name| self.modules.find(name)).collect()
    }

    fn without_blacklisted(&self, mut modules: Vec<ModuleId>) -> Vec<ModuleId> {
        modules.retain(|module| !self.rules.blacklist.contains(self.modules.name(*module)));
        modules
    }

    fn plan_all(&self, wanted: &[ModuleId]) -> Vec<ModuleId> {
        plan::order(wanted, |module| plan::Needs {
            dependencies: self.modules.dependencies(module),
            before: self.softly(module, |soft| &soft.pre),
            after: self.softly(module, |soft| &soft.post),
        })
    }

    /// Soft dependencies of a module, on one of their sides.
    fn softly(
        &self,
        module: ModuleId,
        side: fn(&SoftDependencies) -> &Vec<String>,
    ) -> Vec<ModuleId> {
        let soft = self.rules.softdeps.get(self.modules.name(module));
        soft.into_iter().flat_map(side).flat_map(|name| self.named(name)).collect()
    }

    fn paths(&self, wanted: &[ModuleId]) -> Vec<&str> {
        self.plan_all(wanted).into_iter().map(|module| self.modules.path(module)).collect()
    }

    /// Loads one module, whose dependencies came before, unless that was tried already. `Some(true)` if
    /// this call put it into the kernel.
    fn load(&self, module: ModuleId, log: &Log) -> Option<bool> {
        let mut added = None;
        self.modules.once(module, || {
            let done = self.insert(module, log);
            added = Some(done);
            done
        });
        added
    }

    /// Waits until the kernel knows what a module that is being loaded exports, or until that has failed. A module that
    /// uses it may follow then: the kernel lets that one wait when it comes to the point where the first has to be
    /// ready (`resolve_symbol_wait` in kernel/module/main.c).
    fn is_known(&self, module: ModuleId) -> bool {
        let known = Path::new(KNOWN).join(self.modules.name(module));
        loop {
            match self.modules.outcome(module) {
                Some(loaded) => return loaded,
                None if known.exists() => return true,
                // No event tells of it.
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn insert(&self, module: ModuleId, log: &Log) -> bool {
        let name = self.modules.name(module);
        if self.rules.disabled.contains(name) {
            log.debug(format_args!("kernel module {name} is turned off"));
            return false;
        }
        let failed = |d: &ModuleId| !self.is_known(*d);
        if let Some(missing) = self.modules.dependencies(module).into_iter().find(failed) {
            let missing = self.modules.name(missing);
            log.debug(format_args!("kernel module {name} is left out: it needs {missing}"));
            return false;
        }
        let options = self.rules.options.get(name).map(String::as_str).unwrap_or_default();
        let path = self.directory.join(self.modules.path(module));
        let outcome = CString::new(options)
            .map_err(io::Error::from)
            .and_then(|options| kmod::insert(&path, &options));
        match outcome {
            Ok(()) => log.debug(format_args!("kernel module {name}")),
            // Many drivers ask whether their hardware is there, and leave when it is not.
            Err(e) if e.raw_os_error() == Some(Errno::ENODEV as i32) => {
                log.debug(format_args!("kernel module {name}: its hardware is not there"));
                return false;
            }
            // An initramfs has the modules that somebody chose.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.exists() => {
                log.debug(format_args!("kernel module {name} is not in this image"));
                return false;
            }
            Err(e) => {
                log.warn(format_args!(
                    "kernel module {name} does not load from {} ({e}); the kernel log may say why",
                    path.display()
                ));
                return false;
            }
        }
        true
    }
}

fn read_optional(path: &Path, log: &Log) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => {
            log.warn(format_args!("cannot read {} ({e}): drivers may be missing", path.display()));
            String::new()
        }
    }
}

/// Names are equal when they differ in `-` and `_` alone; the kernel writes `_`.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}
