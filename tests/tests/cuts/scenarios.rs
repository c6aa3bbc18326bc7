//! What machines are recorded at. An entry of the table is all that a further scenario needs.

use gse_qemu::{Disk, Lab};
use gse_tests::{lab::VERSION, small::banner};

use crate::recording::{boots, publish};

/// Something that a machine does, in one or several boots, while its power is cut.
pub(crate) struct Scenario {
    /// As reports name it.
    pub name: &'static str,
    /// What the machine's configuration has beside what all labs have, before the controller is built.
    pub configure: fn(&Lab),
    /// What has happened to the lab and to the machine before; its disk is blank at first.
    pub before: fn(&Lab, &Disk),
    /// What is recorded: one boot of the machine, or several.
    pub recorded: fn(&Lab, &Disk),
}

/// All of them.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "first install",
        configure: |_| {},
        before: |_, _| {},
        recorded: |lab, disk| {
            boots(lab, disk, &["offers 1", "partitioning", "into ", &banner(VERSION)]);
        },
    },
    Scenario {
        name: "update (rotate)",
        configure: |_| {},
        before: |lab, disk| {
            boots(lab, disk, &[&banner(VERSION)]);
            publish(lab, "2");
            lab.publish_config().unwrap();
        },
        recorded: |lab, disk| {
            boots(lab, disk, &["offers 2", "configuration 1 fetched", "into ", &banner("2")]);
        },
    },
];
