//! What must hold after a power cut.
//!
//! - The system that is started is whole: it is what its signed index says.
//! - Once a machine with nothing in flight has had a system, it has one ever after.
//! - Where a machine has fallen back before and after, it knows of one after every cut in between. That may be a newer
//!   one, because a cut while the system runs is a failure of its own.
//! - A release that a machine refuses before and after is refused after every cut in between: what has failed and was
//!   deprived does not come back.
//! - BOOTFS and USERDATAFS can be mounted, have their labels, and keep the files that were there before and
//!   nobody changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use gse_qemu::{
    replay::{Cut, MemoryDisk, Replay},
    writes::WriteLog,
};
use gse_tests::cuts::{self, Examined, Outcome, Verdict};

use crate::recording::Recording;

type Places = BTreeMap<String, BTreeMap<String, String>>;

/// Looks at the disk of one cut.
pub(crate) fn examine(recording: &Recording, disk: &MemoryDisk) -> Examined {
    let program = Path::new(env!("CARGO_BIN_EXE_gse-power-on"));
    cuts::examine(program, &recording.config(), disk, recording.sector)
}

/// Judges the cuts of one recording.
pub(crate) struct Judge<'r> {
    recording: &'r Recording,
    /// What nothing recorded changes.
    constant: Places,
    /// The machine knows of a fallback before and after.
    fell_back: bool,
    /// The serials that it refuses before and after.
    pub(crate) refused: BTreeSet<u64>,
}

/// What was found.
#[derive(Default)]
pub(crate) struct Judged {
    /// Each fatal cut with the reason.
    pub(crate) fatal: Vec<(Cut, String)>,
    /// What the machine does after each of the others.
    pub(crate) outcomes: Vec<(Cut, Outcome)>,
}

impl Judged {
    /// How often which of the outcomes came.
    pub(crate) fn summary(&self) -> String {
        let mut counts = BTreeMap::new();
        for (_, outcome) in &self.outcomes {
            *counts.entry(outcome.to_string()).or_insert(0) += 1;
        }
        let fatal = ("fatal".to_owned(), self.fatal.len());
        let counts = counts.into_iter().chain([fatal]);
        counts.map(|(what, count)| format!("{what}: {count}")).collect::<Vec<_>>().join(", ")
    }
}

impl<'r> Judge<'r> {
    /// Looks at the disk before and after the record.
    pub(crate) fn new(recording: &'r Recording, log: &WriteLog) -> Self {
        let replay = || Replay::new(log, &recording.before()).unwrap();
        let verdict = |disk: &MemoryDisk| {
            let examined = examine(recording, disk);
            examined.verdict.unwrap_or_else(|e| panic!("{e}\n{}", examined.said))
        };
        let before = verdict(&replay().cut(Cut { after: 0, seed: 0 }).unwrap());
        let after = verdict(&replay().whole().unwrap());
        let mut constant = before.places;
        for (label, files) in &mut constant {
            let after = after.places.get(label);
            files.retain(|path, digest| after.and_then(|a| a.get(path)) == Some(digest));
        }
        let fell_back = before.fallback.is_some() && after.fallback.is_some();
        let refused = &before.refused & &after.refused;
        Self { recording, constant, fell_back, refused }
    }

    /// Judges cuts, which are in their order.
    pub(crate) fn all(&self, log: &WriteLog, cuts: &[Cut]) -> Judged {
        let mut replay = Replay::new(log, &self.recording.before()).unwrap();
        let mut judged = Judged::default();
        // What was there while nothing was in flight.
        let mut had_system = false;
        let mut had_places = BTreeSet::new();
        for cut in cuts {
            let disk = replay.cut(*cut).unwrap();
            let examined = examine(self.recording, &disk);
            drop(disk);
            let verdict = examined.verdict;
            let wrong = match &verdict {
                Ok(verdict) => self.wrong(verdict, had_system, &had_places),
                Err(e) => vec![e.clone()],
            };
            if !wrong.is_empty() {
                let said = examined.said.replace('\n', "\n    ");
                judged.fatal.push((*cut, format!("{}\n    {said}", wrong.join("; "))));
                continue;
            }
            let Ok(verdict) = verdict else { continue };
            let settled = cut.after == 0 || log.entries()[cut.after - 1].flush;
            if settled {
                had_system |= matches!(verdict.outcome, Outcome::Boots { .. });
                had_places.extend(verdict.places.keys().cloned());
            }
            judged.outcomes.push((*cut, verdict.outcome));
        }
        judged
    }

    fn wrong(
        &self,
        verdict: &Verdict,
        had_system: bool,
        had_places: &BTreeSet<String>,
    ) -> Vec<String> {
        let mut wrong = verdict.wrong.clone();
        if self.fell_back && verdict.fallback.is_none() {
            wrong.push("the fallback is forgotten".to_owned());
        }
        let forgotten = self.refused.difference(&verdict.refused);
        wrong.extend(forgotten.map(|serial| format!("the failed serial {serial} may come back")));
        match &verdict.outcome {
            Outcome::Boots { .. } => {}
            Outcome::Installs if !had_system => {}
            Outcome::Installs => wrong.push("no system is left".to_owned()),
            Outcome::Rescue(why) => {
                // Whatever else there is was not looked at.
                wrong.push(format!("rescue: {why}"));
                return wrong;
            }
        }
        for label in had_places.iter().chain(self.constant.keys()) {
            match verdict.places.get(label) {
                None => wrong.push(format!("{label} is gone")),
                Some(files) => {
                    let lost = self.constant.get(label).into_iter().flatten();
                    let lost = lost.filter(|(path, digest)| files.get(*path) != Some(digest));
                    wrong.extend(lost.map(|(path, _)| format!("{path} on {label} is lost")));
                }
            }
        }
        wrong
    }
}
