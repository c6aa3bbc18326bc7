//! Whether a build goes on with an earlier one: all of it, from a hook point on, or not at all.

use std::{
    fs, io,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    Earlier, Error, Options,
    ask::{Asker, Choice},
    config_tree::System,
    hook::{Hook, HookSet},
    places::Places,
    plan::{Reason, Task, Wishes, always, plan},
    state::State,
};

const CONTINUE: Choice =
    Choice { word: "continue", meaning: "go on: what is done already stays as it is" };
const FROM: Choice =
    Choice { word: "from", meaning: "run again from a hook point on, which you are asked for" };
const AGAIN: Choice = Choice {
    word: "again",
    meaning: "run everything again; the tree is made anew (--keep would keep this one aside)",
};

/// From where a build goes on.
pub(super) struct Beginning {
    /// That of an earlier build, or a new one.
    pub(super) state: State,
    /// What the person should know about it.
    pub(super) note: Option<String>,
    anew: bool,
}

impl Beginning {
    /// Looks at the earlier build, and asks. Nothing is changed by that.
    pub(super) fn find(
        options: &Options,
        system: &System,
        wishes: &Wishes,
        places: &Places,
    ) -> Result<Self, Error> {
        let earlier = match options.earlier {
            Earlier::Continue => State::load(&places.state())?,
            Earlier::Forget | Earlier::Keep => None,
        };
        if let Some(state) = earlier
            && let Some((state, note)) = goes_on(state, options, system, wishes)
        {
            return Ok(Self { state, note, anew: false });
        }
        Ok(Self { state: State::new(now(), system.digest.clone()), note: None, anew: true })
    }

    /// Forgets the earlier build on disk, where this one begins anew.
    pub(super) fn settle(&self, options: &Options, places: &Places) -> Result<(), Error> {
        if self.anew {
            forget_logs(options, places)?;
        }
        Ok(self.state.save(&places.state())?)
    }
}

/// Now, in seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn forget_logs(options: &Options, places: &Places) -> Result<(), Error> {
    let logs = places.logs();
    if options.earlier == Earlier::Keep && logs.exists() {
        let aside = places.own.join(format!("log-{}", now()));
        fs::rename(&logs, aside).map_err(Error::io("renaming", &logs))?;
    }
    match fs::remove_dir_all(&logs) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", &logs)(e)),
        _ => Ok(()),
    }
}

/// The state of an earlier build that this one goes on with, and what to say about it; none if it begins anew.
fn goes_on(
    state: State,
    options: &Options,
    system: &System,
    wishes: &Wishes,
) -> Option<(State, Option<String>)> {
    // Somebody who names hook points wants those again, of the system that is there.
    if state.finished && options.wishes.enforce != HookSet::default() {
        return Some((state, None));
    }
    let mut text = match &state.running {
        _ if state.finished => "An earlier build came to its end.".to_owned(),
        Some(step) => format!("An earlier build stopped at {step}."),
        None => "An earlier build stopped.".to_owned(),
    };
    if state.configuration != system.digest {
        text.push_str(
            " The configuration was changed since: what is done stays as it is, and --enforce=HOOK does a part again.",
        );
    }
    let mut asker = Asker::new(options.questions);
    match asker.choose(&text, &[CONTINUE, FROM, AGAIN]) {
        Some(word) if word == CONTINUE.word => Some((state, None)),
        Some(word) if word == FROM.word => Some((from(state, wishes, &mut asker), None)),
        Some(_) => None,
        // Whoever starts a build by a timer wants a system of today.
        None if state.finished && matches!(asker, Asker::Nobody(_)) => None,
        // The terminal is gone: nothing that is there is lost by that.
        None if state.finished => Some((state, None)),
        None => {
            let note = format!("{text} This one goes on there; --force-new begins anew.");
            Some((state, Some(note)))
        }
    }
}

/// Asks for a hook point of this build that the earlier one had behind it.
fn from(mut state: State, wishes: &Wishes, asker: &mut Asker) -> State {
    let behind = again_from(wishes, &state);
    let choice = |hook: &Hook| Choice { word: hook.name(), meaning: hook.does() };
    let chosen = asker.choose("From which one on?", &behind.iter().map(choice).collect::<Vec<_>>());
    if let Some(hook) = behind.iter().find(|hook| Some(hook.name()) == chosen) {
        state.forget_from(*hook);
    }
    state
}

/// Those that are done, and those between them that were not asked for then and are now.
fn again_from(wishes: &Wishes, state: &State) -> Vec<Hook> {
    let last = Hook::all().filter(|hook| state.is_done(hook.name())).last();
    let is_wanted = |task: &Task| matches!(task, Task::Work { .. } | Task::Pass(Reason::Done));
    let steps = plan(wishes, state).into_iter().filter(|step| is_wanted(&step.task));
    steps.map(|step| step.hook).filter(|hook| Some(*hook) <= last && !always(*hook)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_before_can_be_where_a_build_is_run_again_from() {
        let mut state = State::default();
        for hook in ["gfund", "gextr", "gpartb", "ginstall", "gpartj"] {
            state.record(hook, 0);
        }
        let left_out = ["gseed gprec gpartc gparte grunlevels".to_owned()];
        let wishes =
            Wishes { lawful_good: HookSet::parse(&left_out).unwrap(), ..Wishes::default() };
        let names = |wishes: &Wishes| {
            again_from(wishes, &state).into_iter().map(Hook::name).collect::<Vec<_>>()
        };
        assert_eq!(names(&wishes), ["gextr", "gpartb", "ginstall", "gpartj"]);
        let with_kernel = Wishes { kernel: true, ..wishes };
        assert_eq!(names(&with_kernel), ["gextr", "gpartb", "ginstall", "gkernel", "gpartj"]);
    }
}
