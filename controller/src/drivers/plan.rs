//! In which order modules are loaded: dependencies first, soft dependencies around, each once.

use std::collections::HashSet;

use super::modules::ModuleId;

/// What must or should be loaded with a module.
pub(super) struct Needs {
    /// Closed, in the order of loading.
    pub(super) dependencies: Vec<ModuleId>,
    /// Soft dependencies that are loaded first.
    pub(super) before: Vec<ModuleId>,
    /// Soft dependencies that are loaded afterwards.
    pub(super) after: Vec<ModuleId>,
}

/// The order in which modprobe loads (libkmod's `kmod_module_get_probe_list`).
pub(super) fn order(wanted: &[ModuleId], needs: impl Fn(ModuleId) -> Needs) -> Vec<ModuleId> {
    let mut plan =
        Planner { needs, visited: HashSet::new(), placed: HashSet::new(), order: vec![] };
    for module in wanted {
        plan.with_dependencies(*module);
    }
    plan.order
}

struct Planner<F> {
    needs: F,
    /// Soft dependencies may go round in a circle: each module is gone into once.
    visited: HashSet<ModuleId>,
    placed: HashSet<ModuleId>,
    order: Vec<ModuleId>,
}

impl<F: Fn(ModuleId) -> Needs> Planner<F> {
    fn with_dependencies(&mut self, module: ModuleId) {
        if !self.visited.insert(module) {
            return;
        }
        let needs = (self.needs)(module);
        for dependency in &needs.dependencies {
            if !self.placed.contains(dependency) {
                let needs = (self.needs)(*dependency);
                self.with_soft(*dependency, &needs);
            }
        }
        self.with_soft(module, &needs);
    }

    /// The dependencies of a dependency need no visit: the list that it came from is closed.
    fn with_soft(&mut self, module: ModuleId, needs: &Needs) {
        for soft in &needs.before {
            self.with_dependencies(*soft);
        }
        if self.placed.insert(module) {
            self.order.push(module);
        }
        for soft in &needs.after {
            self.with_dependencies(*soft);
        }
    }
}
