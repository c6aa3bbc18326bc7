//! Power cuts at real blocks: machines are recorded in QEMU while they install, update, clone and mend themselves, and
//! every part of the record is replayed onto a disk, which must start a whole system.
//!
//! | variable | what it does |
//! |---|---|
//! | `GSE_SOAK` | so many times as many cuts, and boots of them |
//! | `GSE_CUTS_SEED` | what chooses the cuts |
//! | `GSE_CUTS_ONLY` | only the records whose name has these words in it: `clone on xfs` |
//! | `GSE_CUT` | one cut of a record that a failure has left: the words that its report ends with |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod judge;
mod recording;
mod scenarios;

use std::{
    collections::VecDeque,
    io::Write as _,
    path::Path,
    sync::Mutex,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use gse_qemu::{
    Filesystem,
    replay::{Chance, Cut, Replay},
    writes::WriteLog,
};
use gse_tests::{cuts::Outcome, lab::scratch};

use crate::{
    judge::{Judge, examine},
    recording::Recording,
    scenarios::{SCENARIOS, Scenario},
};

/// Cuts of each scenario on each filesystem.
const CUTS: usize = 30;

/// The filesystems of the slots, with the sectors of the disks that they are on.
const DISKS: [(Filesystem, u32); 3] =
    [(Filesystem::Btrfs, 512), (Filesystem::Ext4, 512), (Filesystem::Xfs, 4096)];

/// A record to make, and what chooses its cuts: what machines write is different each time, so each record has a seed of
/// its own.
struct Job {
    scenario: &'static Scenario,
    filesystem: Filesystem,
    sector: u32,
    seed: u64,
}

/// What was found out.
#[derive(Default)]
struct Sum {
    cuts: usize,
    booted: usize,
    fatal: Vec<String>,
}

#[test]
fn no_power_cut_leaves_a_machine_without_a_system() {
    if let Ok(words) = std::env::var("GSE_CUT") {
        return one_cut(&words);
    }
    let factor = number("GSE_SOAK").map_or(1, |factor| usize::try_from(factor).unwrap());
    let seed = number("GSE_CUTS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Chance::new(u64::from(now.subsec_nanos())).below(1_000_000)
    });
    let jobs = SCENARIOS.iter().flat_map(|scenario| DISKS.map(|disk| (scenario, disk)));
    let jobs = jobs.zip(seed..).map(|((scenario, (filesystem, sector)), seed)| Job {
        scenario,
        filesystem,
        sector,
        seed,
    });
    let only = std::env::var("GSE_CUTS_ONLY").unwrap_or_default();
    let jobs: VecDeque<_> = jobs.filter(|job| job.name().contains(&only)).collect();
    let least = CUTS * factor * jobs.len();
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap().pop_front();
    let sum = Mutex::new(Sum::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some(job) = next() {
                    let found = job.run(factor);
                    let mut sum = sum.lock().unwrap();
                    sum.cuts += found.cuts;
                    sum.booted += found.booted;
                    sum.fatal.extend(found.fatal);
                }
            });
        }
    });
    let Sum { cuts, booted, fatal } = sum.into_inner().unwrap();
    say(&format!("cuts: {cuts}, fatal: {}, seed: {seed}, booted: {booted}", fatal.len()));
    assert!(fatal.is_empty(), "\n{}", fatal.join("\n"));
    assert!(cuts >= least && (cuts >= 500 * factor || !only.is_empty()), "{cuts} cuts are too few");
}

/// Not captured: it is what this test is for.
fn say(line: &str) {
    let mut console = std::io::stdout();
    writeln!(console, "{line}").unwrap();
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

impl Job {
    fn name(&self) -> String {
        format!("{} on {}", self.scenario.name, self.filesystem.name())
    }

    /// Records the scenario, cuts the power, and boots a sample.
    fn run(&self, factor: usize) -> Sum {
        let dir = scratch();
        let (mut lab, recording) =
            recording::record(self.scenario, self.filesystem, self.sector, dir.path());
        let log = WriteLog::open(&recording.log()).unwrap();
        recording.is_complete(&log);

        let mut chance = Chance::new(self.seed);
        let cuts = choose(&log, CUTS * factor, &mut chance);
        let judge = Judge::new(&recording, &log);
        assert!(judge.refused.iter().eq(self.scenario.failed), "{:?} are refused", judge.refused);
        let judged = judge.all(&log, &cuts);
        let name = self.name();
        say(&format!(
            "cuts: {} in {} writes and flushes of {name}: {}",
            cuts.len(),
            log.entries().len(),
            judged.summary()
        ));
        let kept = (!judged.fatal.is_empty()).then(|| recording.keep());
        let report = |(Cut { after, seed }, why): &(Cut, String)| {
            let kept = kept.as_deref().unwrap_or(Path::new("")).display();
            format!(
                "{name}, seed {}, after entry {after}: {why}\n  \
                 again: GSE_CUT={kept}:{after}:{seed} cargo test -p gse-tests --test cuts",
                self.seed
            )
        };
        let fatal = judged.fatal.iter().map(report).collect();

        let mut replay = Replay::new(&log, &recording.before()).unwrap();
        let sample = sample(judged.outcomes, factor, &mut chance);
        for (cut, outcome) in &sample {
            recording.boot(&mut lab, &replay.cut(*cut).unwrap(), outcome);
        }
        Sum { cuts: cuts.len(), booted: sample.len(), fatal }
    }
}

/// So many of these, in their order.
fn sample(
    mut outcomes: Vec<(Cut, Outcome)>,
    count: usize,
    chance: &mut Chance,
) -> Vec<(Cut, Outcome)> {
    while outcomes.len() > count {
        outcomes.remove(usize::try_from(chance.below(outcomes.len() as u64)).unwrap());
    }
    outcomes
}

/// Cuts in their order: the first and the last, after flushes, and after entries between two of them.
fn choose(log: &WriteLog, count: usize, chance: &mut Chance) -> Vec<Cut> {
    let end = log.entries().len();
    let flushes: Vec<usize> = (1..=end).filter(|after| log.entries()[after - 1].flush).collect();
    let mut cuts = vec![Cut { after: 0, seed: 0 }, Cut { after: end, seed: 0 }];
    while cuts.len() < count {
        // Between flushes, not between entries: a change of labels has few, and the content of files has many.
        let nth = usize::try_from(chance.below(flushes.len() as u64)).unwrap();
        let from = if nth == 0 { 0 } else { flushes[nth - 1] };
        let after = match chance.below(3) {
            0 => flushes[nth],
            _ => from + usize::try_from(chance.below((flushes[nth] - from) as u64)).unwrap(),
        };
        cuts.push(Cut { after, seed: chance.number() });
    }
    cuts.sort_unstable();
    cuts
}

/// `GSE_CUT`: a kept record's directory, the entry, the seed.
fn one_cut(words: &str) {
    let mut words = words.rsplitn(3, ':');
    let [seed, after] = [(); 2].map(|()| words.next().unwrap().parse::<u64>().unwrap());
    let recording = Recording::open(Path::new(words.next().unwrap()));
    let log = WriteLog::open(&recording.log()).unwrap();
    let cut = Cut { after: usize::try_from(after).unwrap(), seed };
    let judge = Judge::new(&recording, &log);
    let mut replay = Replay::new(&log, &recording.before()).unwrap();
    let examined = examine(&recording, &replay.cut(cut).unwrap());
    say(&format!("{}\n{:#?}", examined.said, examined.verdict));
    let found = judge.all(&log, &[Cut { after: 0, seed: 0 }, cut]);
    assert!(found.fatal.is_empty(), "{:#?}", found.fatal);
}
