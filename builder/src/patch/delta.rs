//! The patches themselves: bsdiff's matches, written as pieces. Pure.

use std::{convert::Infallible, ops::Range};

use bidiff::{DiffParams, Match};
use gse_protocol::patch::{MAX_PIECE, Run, Step, write_number};

/// Changed bytes with no more unchanged ones between them are one run: another run takes two bytes.
const NEAR: usize = 1;

/// A piece's bytes, and how many bytes of the new content it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) makes: u32,
    /// Whether they are a patch, or the new bytes as they are.
    pub(super) patches: bool,
    pub(super) bytes: Vec<u8>,
}

/// Where bytes of the new content come from.
struct Copy {
    /// In the old content.
    from: usize,
    /// So many bytes of it, with something added to each.
    add: usize,
    /// So many new bytes after them.
    insert: usize,
}

/// The pieces that make `new` out of `old`, which starts `offset` bytes into the base.
pub(super) fn deltas(old: &[u8], offset: u64, new: &[u8]) -> Vec<Delta> {
    let mut copies = Vec::new();
    // bidiff does not take an empty content.
    if !old.is_empty() && !new.is_empty() {
        let matched = |m: Match| {
            let insert = m.copy_end - m.copy_start();
            copies.push(Copy { from: m.add_old_start, add: m.add_length, insert });
            Ok::<_, Infallible>(())
        };
        let Ok(()) = bidiff::diff(old, new, &DiffParams::default(), matched);
    }
    let mut copies = copies.into_iter().peekable();
    let mut rest: Option<Copy> = None;
    let pieces = new.chunks(MAX_PIECE as usize).map(|chunk| {
        let mut left = chunk.len();
        let mut here = Vec::new();
        while left > 0 {
            let Some(copy) = rest.take().or_else(|| copies.next()) else { break };
            let add = copy.add.min(left);
            let insert = copy.insert.min(left - add);
            left -= add + insert;
            if add < copy.add || insert < copy.insert {
                rest = Some(Copy {
                    from: copy.from + add,
                    add: copy.add - add,
                    insert: copy.insert - insert,
                });
            }
            here.push(Copy { from: copy.from, add, insert });
        }
        piece(old, offset, chunk, &here)
    });
    pieces.collect()
}

fn piece(old: &[u8], offset: u64, new: &[u8], copies: &[Copy]) -> Delta {
    let makes = new.len() as u32;
    let mut bytes = Vec::new();
    let (mut changes, mut inserts) = (Vec::with_capacity(new.len()), Vec::new());
    write_number(&mut bytes, copies.len() as u64);
    let (mut at, mut rest) = (0_i64, new);
    for copy in copies {
        let from = (offset + copy.from as u64) as i64;
        let (same, other) = rest.split_at(copy.add);
        let (inserted, after) = other.split_at(copy.insert);
        let base = old.get(copy.from..).unwrap_or_default();
        changes.extend(same.iter().zip(base).map(|(new, old)| new.wrapping_sub(*old)));
        changes.resize(changes.len() + copy.insert, 0);
        inserts.extend_from_slice(inserted);
        // Nobody reads the base for nothing.
        let seek = if copy.add == 0 { 0 } else { from - at };
        Step { seek, copy: copy.add as u32, insert: copy.insert as u32 }.write(&mut bytes);
        at += seek + copy.add as i64;
        rest = after;
    }
    let runs = runs(&changes);
    write_number(&mut bytes, runs.len() as u64);
    let (mut end, mut adds) = (0, Vec::new());
    for run in runs {
        Run { keep: (run.start - end) as u32, change: run.len() as u32 }.write(&mut bytes);
        end = run.end;
        adds.extend_from_slice(changes.get(run).unwrap_or_default());
    }
    let length = bytes.len() + adds.len() + inserts.len();
    if covers(copies) != new.len() || length >= new.len() / 10 * 9 {
        return Delta { makes, patches: false, bytes: new.to_vec() };
    }
    bytes.extend_from_slice(&adds);
    bytes.extend_from_slice(&inserts);
    Delta { makes, patches: true, bytes }
}

/// Where bytes change.
fn runs(changes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, _) in changes.iter().enumerate().filter(|(_, change)| **change != 0) {
        match runs.last_mut() {
            Some(last) if at <= last.end + NEAR => last.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

fn covers(copies: &[Copy]) -> usize {
    copies.iter().map(|copy| copy.add + copy.insert).sum()
}
