//! What a build is going to do, as data: from the flags and from what an earlier run left.

use std::fmt;

use super::{
    Base,
    hook::{Hook, HookSet},
    scripts::{Place, Scripts, Side},
    state::State,
};

/// What was asked for, as far as it decides about hook points.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// What the system is made from.
    pub base: Base,
    /// Hook points to leave out; wins over `enforce`.
    pub lawful_good: HookSet,
    /// Hook points to do by force, even where they are done.
    pub enforce: HookSet,
    /// Around the hook points.
    pub scripts: Scripts,
    /// Whether the whole system is compiled anew: part D.
    pub rebuild: bool,
    /// Whether the ebuild repository comes as a snapshot.
    pub snapshot: bool,
    /// Whether catalyst's first stage is made from a stage3 of the mirrors.
    pub seed: bool,
    /// Whether a kernel goes into the system: part H.
    pub kernel: bool,
    /// Whether an initramfs does: part I.
    pub initrd: bool,
    /// Whether machines get it: part L.
    pub publish: bool,
}

/// One thing to do, or to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where in the build.
    pub hook: Hook,
    /// What happens there.
    pub task: Task,
}

/// What happens at a hook point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// A script of the user's runs.
    Script {
        /// Before or after the hook point.
        side: Side,
        /// In [`Scripts::folder`].
        name: String,
        /// How many scripts of this name ran there before, so that each has its own record.
        nth: usize,
    },
    /// The hook point's own work.
    Work {
        /// Whether nothing may be taken from earlier work.
        force: bool,
    },
    /// Nothing.
    Pass(Reason),
}

/// Why nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `--lawful-good`
    LawfulGood,
    /// An earlier run did it.
    Done,
    /// Parts D, H, I and L are only for those who ask; so is the snapshot.
    NotAsked,
}

impl Step {
    /// The name under which the state records it.
    pub fn id(&self) -> String {
        match &self.task {
            Task::Script { side, name, nth } => {
                let place = Place { side: *side, hook: self.hook };
                let nth = if *nth == 0 { String::new() } else { format!("#{}", nth + 1) };
                format!("{place}:{name}{nth}")
            }
            Task::Work { .. } | Task::Pass(_) => self.hook.name().to_owned(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id();
        match &self.task {
            Task::Script { .. } => write!(f, "{id}"),
            Task::Work { force: false } => write!(f, "{id}: {}", self.hook.does()),
            Task::Work { force: true } => write!(f, "{id}: {}, by force", self.hook.does()),
            Task::Pass(reason) => write!(f, "{id}: {reason}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LawfulGood => "passed, as --lawful-good says",
            Self::Done => "done already",
            Self::NotAsked => "not asked for",
        })
    }
}

/// The steps of a build, in their order. What `state` says is done is passed, until the first step that makes
/// the tree anew: from there on nothing counts as done.
pub fn plan(wishes: &Wishes, state: &State) -> Vec<Step> {
    let mut planner = Planner { wishes, state, anew: false, steps: Vec::new() };
    for part in Hook::parts() {
        planner.around(part, |planner| {
            if part.place().is_some() {
                planner.work(part);
            }
            for hook in part.inside() {
                planner.around(hook, |planner| planner.work(hook));
            }
        });
    }
    planner.steps
}

struct Planner<'a> {
    wishes: &'a Wishes,
    state: &'a State,
    /// Whether what was done before is lost by now.
    anew: bool,
    steps: Vec<Step>,
}

impl Planner<'_> {
    fn around(&mut self, hook: Hook, inner: impl FnOnce(&mut Self)) {
        self.scripts(hook, Side::Before);
        inner(self);
        self.scripts(hook, Side::After);
    }

    /// Scripts run even around what is passed: they may stand in for it.
    fn scripts(&mut self, hook: Hook, side: Side) {
        let mut before: Vec<&str> = Vec::new();
        for name in self.wishes.scripts.of(Place { side, hook }) {
            let nth = before.iter().filter(|n| **n == name).count();
            before.push(name);
            let step = Step { hook, task: Task::Script { side, name: name.to_owned(), nth } };
            if self.anew || !self.state.is_done(&step.id()) {
                self.steps.push(step);
            }
        }
    }

    fn work(&mut self, hook: Hook) {
        if !self.is_of_base(hook) {
            return;
        }
        let task = self.task(hook);
        self.anew |= matches!(task, Task::Work { .. }) && replaces_the_tree(hook);
        self.steps.push(Step { hook, task });
    }

    fn task(&self, hook: Hook) -> Task {
        let force = self.wishes.enforce.has(hook);
        let done = !self.anew && self.state.is_done(hook.name());
        if self.wishes.lawful_good.has(hook) {
            Task::Pass(Reason::LawfulGood)
        } else if !self.is_asked(hook, force) {
            Task::Pass(Reason::NotAsked)
        } else if done && !force && !always(hook) {
            Task::Pass(Reason::Done)
        } else {
            Task::Work { force }
        }
    }
}

impl Planner<'_> {
    /// What only the other base needs is none of this build's business.
    fn is_of_base(&self, hook: Hook) -> bool {
        match hook {
            Hook::Catalyst => self.wishes.base == Base::Catalyst,
            Hook::Precompiled => self.wishes.base == Base::Precomp,
            _ => true,
        }
    }

    /// Force makes up for a rebuild that the configuration does not ask for; there is no kernel to make up. What catalyst made
    /// was compiled here already.
    fn is_asked(&self, hook: Hook, force: bool) -> bool {
        let catalyst = self.wishes.base == Base::Catalyst;
        match hook {
            Hook::Seed => !catalyst || self.wishes.seed,
            Hook::Rebuild => self.wishes.rebuild && !catalyst || force,
            Hook::Snapshot => self.wishes.snapshot || catalyst,
            Hook::Kernel => self.wishes.kernel,
            Hook::Initrd => self.wishes.initrd,
            Hook::Mark => self.wishes.publish,
            _ => true,
        }
    }
}

/// Whether all that comes later has to be done again when this is: it makes the tree, or decides of what.
pub(super) fn replaces_the_tree(hook: Hook) -> bool {
    matches!(hook, Hook::Seed | Hook::Catalyst | Hook::Precompiled | Hook::Extract)
}

/// Whether it is done in each run: this machine may have changed since the last one.
pub(super) fn always(hook: Hook) -> bool {
    hook == Hook::Fundamentals
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wishes(lawful_good: &[&str], enforce: &[&str]) -> Wishes {
        Wishes {
            lawful_good: HookSet::parse(lawful_good).unwrap(),
            enforce: HookSet::parse(enforce).unwrap(),
            snapshot: true,
            seed: true,
            kernel: true,
            initrd: true,
            publish: true,
            ..Wishes::default()
        }
    }

    fn enforced(enforce: &[&str]) -> Wishes {
        Wishes { enforce: HookSet::parse(enforce).unwrap(), ..plain() }
    }

    fn plain() -> Wishes {
        Wishes { snapshot: true, ..Wishes::default() }
    }

    fn done(ids: &[&str]) -> State {
        let mut state = State::default();
        for id in ids {
            state.record(id, 0);
        }
        state
    }

    fn worked(steps: &[Step]) -> Vec<String> {
        steps.iter().filter(|s| !matches!(s.task, Task::Pass(_))).map(Step::id).collect()
    }

    fn tasks(steps: &[Step], hook: Hook) -> Vec<Task> {
        steps.iter().filter(|s| s.hook == hook).map(|s| s.task.clone()).collect()
    }

    const EVERYTHING: [&str; 14] = [
        "gfund",
        "gseed",
        "gsnap",
        "gprec",
        "gextr",
        "gpartb",
        "gupdate",
        "gportage",
        "gapply-new",
        "gconfigure",
        "ginstall",
        "grunlevels",
        "gpartj",
        "gclean",
    ];

    #[test]
    fn a_build_without_further_wishes_rebuilds_nothing_has_no_kernel_and_is_not_published() {
        let steps = plan(&plain(), &State::default());
        assert_eq!(worked(&steps), EVERYTHING);
        for hook in [Hook::Rebuild, Hook::Kernel, Hook::Initrd, Hook::Mark] {
            assert_eq!(tasks(&steps, hook), [Task::Pass(Reason::NotAsked)]);
        }
        let asked = Wishes { rebuild: true, ..plain() };
        assert!(worked(&plan(&asked, &State::default())).contains(&"grebuild".to_owned()));
    }

    #[test]
    fn a_repository_that_is_synced_needs_no_snapshot_even_by_force() {
        let wishes = Wishes { snapshot: false, ..enforced(&["gparta"]) };
        let steps = plan(&wishes, &State::default());
        assert_eq!(tasks(&steps, Hook::Snapshot), [Task::Pass(Reason::NotAsked)]);
    }

    #[test]
    fn catalyst_makes_what_is_fetched_otherwise_and_compiles_everything() {
        let wishes =
            Wishes { base: Base::Catalyst, rebuild: true, seed: true, ..Wishes::default() };
        let steps = worked(&plan(&wishes, &State::default()));
        assert_eq!(steps.get(..5).unwrap(), ["gfund", "gseed", "gsnap", "gcat", "gextr"]);
        assert!(!steps.contains(&"grebuild".to_owned()));
        let seedless = worked(&plan(&Wishes { seed: false, ..wishes }, &State::default()));
        assert_eq!(seedless.get(..3).unwrap(), ["gfund", "gsnap", "gcat"]);
    }

    #[test]
    fn each_hook_point_can_be_left_out_and_that_wins_over_force() {
        for (base, not) in [(Base::Precomp, Hook::Catalyst), (Base::Catalyst, Hook::Precompiled)] {
            for hook in Hook::all() {
                let wishes = Wishes { base, ..wishes(&[hook.name()], &["all"]) };
                for step in plan(&wishes, &State::default()) {
                    let meant = step.hook == hook || step.hook.part() == Some(hook);
                    let expected = match meant {
                        true => Task::Pass(Reason::LawfulGood),
                        false => Task::Work { force: true },
                    };
                    assert_eq!(step.task, expected, "{hook}");
                    assert_ne!(step.hook, not);
                }
            }
        }
    }

    #[test]
    fn what_is_done_is_passed_and_done_again_by_force() {
        let state =
            done(&["gfund", "gseed", "gsnap", "gprec", "gextr", "gpartb", "gupdate", "gportage"]);
        let steps = plan(&plain(), &state);
        assert_eq!(
            worked(&steps),
            ["gfund", "gapply-new", "gconfigure", "ginstall", "grunlevels", "gpartj", "gclean"]
        );
        let steps = plan(&wishes(&[], &["gportage"]), &state);
        assert_eq!(tasks(&steps, Hook::Portage), [Task::Work { force: true }]);
        assert_eq!(tasks(&steps, Hook::Update), [Task::Pass(Reason::Done)]);
    }

    #[test]
    fn a_new_tree_has_nothing_done_in_it() {
        let state = done(&EVERYTHING);
        assert_eq!(worked(&plan(&plain(), &state)), ["gfund"]);
        let steps = plan(&enforced(&["gextr"]), &state);
        let fetching = ["gseed", "gsnap", "gprec"];
        let expected = EVERYTHING.into_iter().filter(|id| !fetching.contains(id));
        assert_eq!(worked(&steps), expected.collect::<Vec<_>>());
        // A new snapshot is unpacked over the old one; the tree stays.
        assert_eq!(worked(&plan(&enforced(&["gsnap"]), &state)), ["gfund", "gsnap"]);
    }

    #[test]
    fn scripts_stand_around_parts_and_hook_points_even_if_those_are_passed() {
        let place = |side, hook| Place { side, hook };
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let scripts = Scripts {
            at: vec![
                (place(Side::Before, Hook::PartA), names(&["one", "two", "one"])),
                (place(Side::After, Hook::Extract), names(&["three"])),
                (place(Side::After, Hook::PartA), names(&["four"])),
            ],
            ..Scripts::default()
        };
        let wishes = Wishes { scripts, ..wishes(&["gparta"], &[]) };
        let ids: Vec<_> = plan(&wishes, &State::default()).iter().map(Step::id).take(11).collect();
        let expected = [
            "gfund",
            "-gparta:one",
            "-gparta:two",
            "-gparta:one#2",
            "gseed",
            "gsnap",
            "gprec",
            "gextr",
            "+gextr:three",
            "+gparta:four",
            "gpartb",
        ];
        assert_eq!(ids, expected);
        let ids = worked(&plan(&wishes, &done(&["-gparta:one", "-gparta:two", "gfund"])));
        assert_eq!(
            ids.get(..4).unwrap(),
            ["gfund", "-gparta:one#2", "+gextr:three", "+gparta:four"]
        );
    }
}
