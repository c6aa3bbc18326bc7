//! Power cuts at real blocks: machines are recorded in QEMU while they install and update themselves, and every
//! part of the record is replayed onto a disk, which must start a whole system.
//!
//! | variable | what it does |
//! |---|---|
//! | `GSE_SOAK` | so many times as many cuts, and boots of them |
//! | `GSE_CUTS_SEED` | what chooses the cuts |
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
const CUTS: usize = 90;

/// The filesystems of the slots, with the sectors of the disks that they are on.
const DISKS: [(Filesystem, u32); 3] =
    [(Filesystem::Btrfs, 512), (Filesystem::Ext4, 512), (Filesystem::Xfs, 512)];

/// What was found out.
#[derive(Default)]
struct Sum {
    cuts: usize,
    boots: usize,
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
    let jobs: Mutex<VecDeque<_>> = Mutex::new(jobs.collect());
    let sum = Mutex::new(Sum::default());
    // What the machines of a job write is different each time, so a job has a seed of its own.
    let next = || {
        let mut jobs = jobs.lock().unwrap();
        let left = jobs.len() as u64;
        jobs.pop_front().map(|job| (job, seed.wrapping_add(left)))
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some(((scenario, (filesystem, sector)), seed)) = next() {
                    job(scenario, filesystem, sector, seed, factor, &sum);
                }
            });
        }
    });
    let Sum { cuts, boots, fatal } = sum.into_inner().unwrap();
    say(&format!("cuts: {cuts}, fatal: {}, seed: {seed}, booted: {boots}", fatal.len()));
    assert!(fatal.is_empty(), "\n{}", fatal.join("\n"));
    assert!(cuts >= 500 * factor, "{cuts} cuts are too few");
}

/// Not captured: it is what this test is for.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").unwrap();
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

/// Records one scenario, and cuts the power.
fn job(
    scenario: &Scenario,
    filesystem: Filesystem,
    sector: u32,
    seed: u64,
    factor: usize,
    sum: &Mutex<Sum>,
) {
    let dir = scratch();
    let (mut lab, recording) = recording::record(scenario, filesystem, sector, dir.path());
    let log = WriteLog::open(&recording.log()).unwrap();
    recording.is_complete(&log);

    let mut chance = Chance::new(seed);
    let cuts = choose(&log, CUTS * factor, &mut chance);
    let judge = Judge::new(&recording, &log);
    let fatal = judge.all(&log, &cuts);
    let (fatal, outcomes) = (fatal.reports, fatal.outcomes);
    if std::env::var_os("DBG").is_some() {
        let fl = log.entries().iter().filter(|e| e.flush).count();
        let di = log.entries().iter().filter(|e| e.kind == gse_qemu::writes::Kind::Discard).count();
        let fua = log.entries().iter().filter(|e| e.fua).count();
        let mut m = std::collections::BTreeMap::new();
        for (_, o) in &outcomes {
            *m.entry(format!("{o:?}")).or_insert(0) += 1;
        }
        say(&format!(
            "{} {}: {} entries, {fl} flushes, {di} discards {fua} fua: {m:?}",
            scenario.name,
            filesystem.name(),
            log.entries().len()
        ));
    }
    let kept = (!fatal.is_empty()).then(|| recording.keep());
    let report = |(cut, why): &(Cut, String)| {
        format!(
            "FATAL: {} on {}, after entry {} of {}: {why}\n  again: GSE_CUT={}:{}:{} cargo test -p gse-tests --test cuts\n",
            scenario.name,
            filesystem.name(),
            cut.after,
            log.entries().len(),
            kept.as_deref().unwrap_or(Path::new("")).display(),
            cut.after,
            cut.seed,
        )
    };
    let reports: Vec<_> = fatal.iter().map(report).collect();

    let mut booted = 0;
    let mut samples: Vec<_> = outcomes.iter().collect();
    let mut replay_order: Vec<(Cut, Outcome)> = Vec::new();
    for _ in 0..factor.min(samples.len()) {
        let nth = usize::try_from(chance.below(samples.len() as u64)).unwrap();
        let (cut, outcome) = samples.swap_remove(nth);
        replay_order.push((*cut, outcome.clone()));
    }
    replay_order.sort_by_key(|(cut, _)| *cut);
    let mut replay = Replay::new(&log, &recording.before()).unwrap();
    for (cut, outcome) in replay_order {
        let disk = replay.cut(cut).unwrap();
        recording.boot(&mut lab, &disk, &outcome);
        booted += 1;
    }
    let mut sum = sum.lock().unwrap();
    sum.cuts += cuts.len();
    sum.boots += booted;
    sum.fatal.extend(reports);
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
    assert!(found.reports.is_empty(), "{:#?}", found.reports);
}
