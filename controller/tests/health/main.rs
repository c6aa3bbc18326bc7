//! The health cycle: every state that a machine can get into, with power lost at any time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fate;
mod laws;
mod table;
mod walk;
mod world;

use walk::{Family, walk};

#[test]
fn every_power_cut_leaves_a_bootable_machine() {
    let family = Family {
        slots: 2,
        serials: 3,
        downgrades: false,
        no_init: None,
        faults: false,
        stuck_labels: false,
        failures: 0,
        wipes: false,
        few_policies: false,
    };
    let families = [
        Family { slots: 1, serials: 2, wipes: true, few_policies: true, failures: 1, ..family },
        Family { serials: 2, wipes: true, few_policies: true, ..family },
        Family {
            slots: 1,
            downgrades: true,
            faults: true,
            stuck_labels: true,
            failures: 1,
            ..family
        },
        Family { slots: 1, no_init: Some(2), faults: true, failures: 1, ..family },
        Family { serials: 2, faults: true, ..family },
        Family { serials: 2, downgrades: true, ..family },
        Family { serials: 2, failures: 1, ..family },
        Family { serials: 2, stuck_labels: true, few_policies: true, failures: 1, ..family },
        Family { no_init: Some(2), ..family },
        Family { slots: 3, serials: 2, ..family },
        family,
    ];
    let mut total = walk::Counts::default();
    for family in &families {
        let start = std::time::Instant::now();
        let counts = walk(family).unwrap_or_else(|e| panic!("{family:?}: {e:#}"));
        println!("{family:?}: {counts} ({} ms)", start.elapsed().as_millis());
        total += counts;
    }
    println!("{total}");
    // Nothing was cut off that should have been walked.
    assert!(total.states > 50_000 && total.transitions > 5_000_000 && total.cuts > 1_000_000);
}
