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
    plan::always,
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
    pub(super) fn find(options: &Options, system: &System, places: &Places) -> Result<Self, Error> {
        let earlier = match options.earlier {
            Earlier::Continue => State::load(&places.state())?,
            Earlier::Forget | Earlier::Keep => None,
        };
        if let Some(state) = earlier
            && let Going::On(state, note) = goes_on(state, options, system)
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

/// Whether a build goes on with an earlier one.
enum Going {
    /// It does, with this to say.
    On(State, Option<String>),
    Anew,
}

fn goes_on(state: State, options: &Options, system: &System) -> Going {
    // Somebody who names hook points wants those again, of the system that is there.
    if state.finished && options.wishes.enforce != HookSet::default() {
        return Going::On(state, None);
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
        Some(word) if word == CONTINUE.word => Going::On(state, None),
        Some(word) if word == FROM.word => from(state, &mut asker),
        Some(_) => Going::Anew,
        // Whoever starts a build by a timer wants a system of today.
        None if state.finished => Going::Anew,
        None => {
            let note = format!("{text} This one goes on there; --force-new begins anew.");
            Going::On(state, Some(note))
        }
    }
}

/// Asks for one of the hook points that are done.
fn from(mut state: State, asker: &mut Asker) -> Going {
    let done = Hook::all().filter(|hook| state.is_done(hook.name()) && !always(*hook));
    let choices: Vec<(Hook, Choice)> =
        done.map(|hook| (hook, Choice { word: hook.name(), meaning: hook.does() })).collect();
    let words: Vec<Choice> = choices.iter().map(|(_, choice)| *choice).collect();
    if words.is_empty() {
        return Going::On(state, None);
    }
    let chosen = asker.choose("From which one on?", &words);
    match choices.iter().find(|(_, choice)| Some(choice.word) == chosen) {
        Some((hook, _)) => state.forget_from(*hook),
        None => return Going::On(state, None),
    }
    Going::On(state, None)
}
