//! Where new partitions go: arithmetic on ranges of sectors.

/// A range of sectors; `end` is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first sector.
    pub start: u64,
    /// The sector after the last.
    pub end: u64,
}

impl Run {
    /// In sectors.
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Cuts `sectors` off the start.
    fn take(&mut self, sectors: u64) -> Self {
        let taken =
            Self { start: self.start, end: self.start.saturating_add(sectors).min(self.end) };
        self.start = taken.end;
        taken
    }
}

/// How large a partition is to be, in sectors that are a multiple of the alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// This large.
    Exactly(u64),
    /// What is left, if that is at least this much.
    Rest(u64),
}

impl Want {
    fn least(self) -> u64 {
        match self {
            Self::Exactly(sectors) | Self::Rest(sectors) => sectors,
        }
    }
}

/// There is no room. All in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// What is needed in all.
    pub needed: u64,
    /// What is free in all.
    pub free: u64,
    /// The largest piece of that.
    pub largest: u64,
}

/// The free ranges between `used` ones (first and last sector of each, in any order) within `first` to
/// `last`; each starts and ends at a multiple of `align`.
pub fn free_runs(first: u64, last: u64, used: &[(u64, u64)], align: u64) -> Vec<Run> {
    let align = align.max(1);
    let mut used = used.to_vec();
    used.sort_unstable();
    let end = last.saturating_add(1);
    let mut runs = Vec::new();
    let mut from = first;
    for (start, last) in used.into_iter().chain([(end, end)]) {
        let run = Run {
            start: from.checked_next_multiple_of(align).unwrap_or(u64::MAX),
            end: start.min(end) / align * align,
        };
        if !run.is_empty() {
            runs.push(run);
        }
        from = from.max(last.saturating_add(1));
    }
    runs
}

/// A place for each of `wants`, in their order; at most one is [`Want::Rest`].
///
/// All go one after the other into the largest run where they fit there. Otherwise each of a fixed size
/// goes into the smallest run that holds it, the largest of them first, and the rest is what then
/// is the largest run.
///
/// # Errors
/// What is needed and what there is.
pub fn place(mut runs: Vec<Run>, wants: &[Want]) -> Result<Vec<Run>, NoRoom> {
    let needed = wants.iter().fold(0_u64, |sum, want| sum.saturating_add(want.least()));
    let largest = |runs: &[Run]| runs.iter().copied().enumerate().max_by_key(|(_, run)| run.len());
    let no_room = NoRoom {
        needed,
        free: runs.iter().map(|run| run.len()).sum(),
        largest: largest(&runs).map_or(0, |(_, run)| run.len()),
    };
    if let Some((_, mut run)) = largest(&runs).filter(|(_, run)| run.len() >= needed) {
        let spare = run.len() - needed;
        return Ok(wants
            .iter()
            .map(|want| match want {
                Want::Exactly(sectors) => run.take(*sectors),
                Want::Rest(least) => run.take(least + spare),
            })
            .collect());
    }
    // Largest first, so that small ones do not break up the room that a large one needs; the rest last.
    let mut order: Vec<(usize, Want)> = wants.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, want)| match want {
        Want::Exactly(sectors) => (0, u64::MAX - sectors),
        Want::Rest(_) => (1, 0),
    });
    let mut placed = Vec::new();
    for (index, want) in order {
        let fitting = runs.iter_mut().filter(|run| run.len() >= want.least());
        let run = match want {
            Want::Exactly(_) => fitting.min_by_key(|run| run.len()),
            Want::Rest(_) => fitting.max_by_key(|run| run.len()),
        };
        let Some(run) = run else { return Err(no_room) };
        let sectors = match want {
            Want::Exactly(sectors) => sectors,
            Want::Rest(_) => run.len(),
        };
        placed.push((index, run.take(sectors)));
    }
    placed.sort_unstable_by_key(|(index, _)| *index);
    Ok(placed.into_iter().map(|(_, run)| run).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn run(start: u64, end: u64) -> Run {
        Run { start, end }
    }

    #[test]
    fn free_runs_are_what_is_between_and_aligned() {
        for (used, wanted) in [
            (vec![], vec![run(40, 990)]),
            (vec![(40, 59)], vec![run(60, 990)]),
            (vec![(45, 52)], vec![run(60, 990)]),
            (vec![(100, 105), (500, 996)], vec![run(40, 100), run(110, 500)]),
            (vec![(500, 996), (100, 105)], vec![run(40, 100), run(110, 500)]),
            (vec![(34, 996)], vec![]),
            (vec![(0, u64::MAX)], vec![]),
        ] {
            assert_eq!(free_runs(34, 996, &used, 10), wanted, "{used:?}");
        }
    }

    #[test]
    fn partitions_keep_their_order_in_one_run() {
        let wants = [Want::Exactly(10), Want::Rest(20), Want::Exactly(30)];
        let placed = place(vec![run(0, 20), run(100, 200)], &wants).unwrap();
        assert_eq!(placed, [run(100, 110), run(110, 170), run(170, 200)]);
    }

    #[test]
    fn partitions_are_spread_where_no_run_holds_all() {
        let wants = [Want::Exactly(10), Want::Exactly(90), Want::Rest(5)];
        let runs = vec![run(0, 20), run(100, 200), run(300, 310)];
        let placed = place(runs, &wants).unwrap();
        assert_eq!(placed, [run(190, 200), run(100, 190), run(0, 20)]);
    }

    #[test]
    fn no_room_says_what_is_needed_and_what_there_is() {
        let error = place(vec![run(0, 20), run(100, 150)], &[Want::Exactly(60)]).unwrap_err();
        assert_eq!(error, NoRoom { needed: 60, free: 70, largest: 50 });
        let error = place(vec![], &[Want::Rest(1)]).unwrap_err();
        assert_eq!(error, NoRoom { needed: 1, free: 0, largest: 0 });
        let huge = [Want::Exactly(u64::MAX), Want::Exactly(u64::MAX)];
        assert_eq!(place(vec![run(0, 20)], &huge).unwrap_err().needed, u64::MAX);
    }
}
