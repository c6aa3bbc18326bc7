//! `modules.dep` and `modules.builtin`: which modules there are, and what each depends on.
//!
//! Formats: modules.dep(5). A line is `PATH: PATH…`, with the whole closure of what the first needs, in
//! the reverse order of loading.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::OnceLock,
};

use super::normal;

/// A module: its line in `modules.dep`, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ModuleId(usize);

/// The modules of a kernel, and which of them were loaded.
#[derive(Default)]
pub(super) struct Modules {
    /// `modules.dep`; lines are split when they are asked for, as few of them ever are.
    text: String,
    modules: Vec<Module>,
    by_name: HashMap<String, ModuleId>,
    builtin: HashSet<String>,
}

struct Module {
    name: String,
    path: Range<usize>,
    dependencies: Range<usize>,
    /// Whether the module is in the kernel, once that was tried.
    loaded: OnceLock<bool>,
}

impl Modules {
    pub(super) fn parse(dep: String, builtin: &str) -> Self {
        let mut modules = Vec::new();
        let mut by_name = HashMap::new();
        let mut start = 0;
        for line in dep.split_inclusive('\n') {
            if let Some(colon) = line.find(':') {
                let name = name_of(line.get(..colon).unwrap_or_default());
                by_name.insert(name.clone(), ModuleId(modules.len()));
                modules.push(Module {
                    name,
                    path: start..start + colon,
                    dependencies: start + colon + 1..start + line.len(),
                    loaded: OnceLock::new(),
                });
            }
            start += line.len();
        }
        let builtin = builtin.lines().map(name_of).collect();
        Self { text: dep, modules, by_name, builtin }
    }

    pub(super) fn len(&self) -> usize {
        self.modules.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<ModuleId> {
        self.by_name.get(&normal(name)).copied()
    }

    pub(super) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normal(name))
    }

    pub(super) fn name(&self, id: ModuleId) -> &str {
        self.modules.get(id.0).map(|m| m.name.as_str()).unwrap_or_default()
    }

    /// Relative to the modules' directory.
    pub(super) fn path(&self, id: ModuleId) -> &str {
        self.slice(id, |m| &m.path)
    }

    /// All that the module needs, in the order of loading.
    pub(super) fn dependencies(&self, id: ModuleId) -> Vec<ModuleId> {
        let paths = self.slice(id, |m| &m.dependencies).split_whitespace().rev();
        paths.filter_map(|path| self.by_name.get(&name_of(path)).copied()).collect()
    }

    /// Does `load` unless it was done before; another thread that is doing it is waited for.
    pub(super) fn once(&self, id: ModuleId, load: impl FnOnce() -> bool) {
        if let Some(module) = self.modules.get(id.0) {
            module.loaded.get_or_init(load);
        }
    }

    /// Whether the module is in the kernel; `None` if that was not tried.
    pub(super) fn outcome(&self, id: ModuleId) -> Option<bool> {
        self.modules.get(id.0)?.loaded.get().copied()
    }

    fn slice(&self, id: ModuleId, part: impl Fn(&Module) -> &Range<usize>) -> &str {
        let module = self.modules.get(id.0);
        module.and_then(|m| self.text.get(part(m).clone())).unwrap_or_default()
    }
}

/// `kernel/fs/btrfs/btrfs.ko.xz` is `btrfs`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    normal(file.split('.').next().unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/btrfs/btrfs.ko.zst: kernel/lib/xor.ko kernel/lib/raid6/raid6-pq.ko\n\
                       kernel/lib/xor.ko:\nkernel/lib/raid6/raid6-pq.ko:";

    #[test]
    fn dependencies_come_in_the_order_of_loading() {
        let modules = Modules::parse(DEP.to_owned(), "kernel/fs/ext4/ext4.ko\n");
        let btrfs = modules.find("btrfs").unwrap();
        assert_eq!(modules.path(btrfs), "kernel/fs/btrfs/btrfs.ko.zst");
        let names: Vec<_> = modules.dependencies(btrfs).iter().map(|m| modules.name(*m)).collect();
        assert_eq!(names, ["raid6_pq", "xor"]);
        assert_eq!(modules.find("raid6_pq"), modules.find("raid6-pq"));
        assert!(modules.is_builtin("ext4") && !modules.is_builtin("btrfs"));
        assert_eq!(modules.find("ext4"), None);
    }

    #[test]
    fn a_module_is_loaded_once() {
        let modules = Modules::parse(DEP.to_owned(), "");
        let xor = modules.find("xor").unwrap();
        assert_eq!(modules.outcome(xor), None);
        let mut calls = 0;
        for _ in 0..2 {
            modules.once(xor, || {
                calls += 1;
                true
            });
        }
        assert_eq!((calls, modules.outcome(xor)), (1, Some(true)));
    }
}
