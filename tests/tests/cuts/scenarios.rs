//! What machines are recorded at. An entry of the table is all that a further scenario needs.

use gse_qemu::{Disk, Exit, Lab};
use gse_tests::{
    lab::{VERSION, Watch as _},
    small::banner,
};

use crate::recording::{boots, publish, publish_failing};

/// Something that a machine does, in one or several boots, while its power is cut.
pub(crate) struct Scenario {
    /// As reports name it.
    pub name: &'static str,
    /// What the machine's configuration has beside what all labs have, before the controller is built.
    pub configure: fn(&Lab),
    /// Whether the machine has [`VERSION`] at first, or a blank disk.
    pub installed: bool,
    /// What has happened to the lab and to the machine since.
    pub before: fn(&Lab, &Disk),
    /// The serials of releases that have failed by then, and are refused ever after.
    pub failed: &'static [u64],
    /// What is recorded: one boot of the machine, or several.
    pub recorded: fn(&Lab, &Disk),
}

/// All of them.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "first install",
        configure: |_| {},
        installed: false,
        before: |_, _| {},
        failed: &[],
        recorded: |lab, disk| {
            boots(lab, disk, &["offers 1", "partitioning", "into ", &banner(VERSION)]);
        },
    },
    Scenario {
        name: "update (rotate)",
        configure: |_| {},
        installed: true,
        before: |lab, _| {
            publish(lab, "2");
            lab.publish_config().unwrap();
        },
        failed: &[],
        recorded: |lab, disk| {
            boots(lab, disk, &["offers 2", "configuration 1 fetched", "into ", &banner("2")]);
        },
    },
    Scenario {
        name: "update (in-place)",
        configure: |lab| {
            lab.write_config("controller/boot.toml", "[update]\nmode = \"in-place\"\n").unwrap();
        },
        installed: true,
        before: |lab, _| {
            publish(lab, "2");
        },
        failed: &[],
        recorded: |lab, disk| {
            boots(lab, disk, &["offers 2", "cloning version 1", "installing ", &banner("2")]);
        },
    },
    Scenario {
        name: "clone",
        configure: |_| {},
        installed: true,
        before: |_, _| {},
        failed: &[],
        recorded: |lab, disk| boots(lab, disk, &["cloning version 1", &banner(VERSION)]),
    },
    Scenario {
        name: "wipe",
        configure: |_| {},
        installed: true,
        before: |lab, _| {
            lab.write_config("controller/boot.toml", "[wipe]\ntoken = \"spring\"\n").unwrap();
            lab.publish_config().unwrap();
        },
        failed: &[],
        recorded: |lab, disk| {
            boots(lab, disk, &["wipe.token", "installing ", "becomes DEPRIVED", &banner(VERSION)]);
        },
    },
    Scenario {
        name: "fallback",
        configure: |_| {},
        installed: true,
        before: |lab, disk| {
            publish_failing(lab, "2");
            let machine = lab.machine().disk(disk.clone()).start().unwrap();
            machine.shows(&["offers 2", &banner("2")]);
            assert_eq!(machine.ends(), Exit::Shutdown);
        },
        failed: &[2],
        recorded: |lab, disk| {
            boots(lab, disk, &["version 2 on ", "becomes DEPRIVED", &banner(VERSION)]);
        },
    },
];
