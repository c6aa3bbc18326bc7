//! The health cycle: every state that a machine can get into, with power lost at any time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod laws;
mod walk;
mod world;

use walk::{Family, walk};

#[test]
fn every_power_cut_leaves_a_bootable_machine() {
    let families = [
        Family { slots: 2, serials: 3, no_init: None, faults: false, failures: 0 },
        Family { slots: 2, serials: 3, no_init: None, faults: true, failures: 0 },
        Family { slots: 2, serials: 3, no_init: None, faults: false, failures: 1 },
    ];
    let mut total = walk::Counts::default();
    for family in families {
        let start = std::time::Instant::now();
        let counts = walk(&family).unwrap_or_else(|e| panic!("{family:?}: {e:#}"));
        println!("{family:?}: {counts} ({} ms)", start.elapsed().as_millis());
        total += counts;
    }
    println!("{total}");
}
