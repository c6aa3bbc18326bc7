//! The table in `docs/health.md`, as the code decides.

use std::{fs, path::Path};

use gse_controller::{
    decide::{self, Next, Policy, Step, Why},
    facts::{
        Checked, Content, Cycle, Facts, Generation, Life, Offer, Refused, Role, Session, Slot,
        SlotId, System,
    },
};
use gse_protocol::{Serial, config::Boot};

const BEGIN: &str =
    "<!-- table: GSE_BLESS=1 cargo test -p gse-controller --test health writes it -->\n";
const END: &str = "<!-- end of table -->\n";

/// What a check finds in a slot that nothing else is wrong with.
#[derive(Clone, Copy)]
enum Disk {
    Sound,
    Damaged,
    NoInit,
}

struct Case {
    name: &'static str,
    /// What the record says; none for a slot without a system.
    system: Option<Option<Life>>,
    disk: Disk,
}

const fn case(name: &'static str, state: Cycle) -> Case {
    let life = Life { state, tries: 1, unclean_shutdowns: 0 };
    Case { name, system: Some(Some(life)), disk: Disk::Sound }
}

const CLOSED: Case = case("closed", Cycle::Closed);

const SYSFS: &[Case] = &[
    CLOSED,
    Case { name: "fresh", system: Some(Some(Life::FRESH)), disk: Disk::Sound },
    case("open", Cycle::Open),
    case("up", Cycle::Up),
    Case { name: "no record", system: Some(None), disk: Disk::Sound },
    Case { name: "no init", system: Some(Some(Life::FRESH)), disk: Disk::NoInit },
    Case { name: "damaged", system: CLOSED.system, disk: Disk::Damaged },
    Case { name: "none", system: None, disk: Disk::Sound },
];

const BACKUPFS: &[Case] = &[
    CLOSED,
    case("cloned", Cycle::Cloned),
    case("up", Cycle::Up),
    case("open", Cycle::Open),
    Case { name: "damaged", system: CLOSED.system, disk: Disk::Damaged },
    Case { name: "none", system: None, disk: Disk::Sound },
];

fn slot(device: &str, role: Role, case: &Case, version: u64) -> Slot {
    let system = |life| {
        Content::System(System {
            serial: Serial(version),
            version: version.to_string(),
            generation: Generation(version),
            life,
        })
    };
    Slot {
        device: device.to_owned(),
        role: if case.system.is_some() { role } else { Role::Free },
        content: case.system.map_or(Content::Nothing, system),
        refused: Refused::default(),
        session: Session::default(),
    }
}

/// What happens to SYSFS with version 2 and BACKUPFS with version 1, in words.
fn outcome(system: &Case, backup: &Case, offer: Option<u64>) -> String {
    let offer = offer.map(|serial| Offer {
        serial: Serial(serial),
        version: serial.to_string(),
        allow_downgrade: false,
    });
    let slots = vec![slot("A", Role::System, system, 2), slot("B", Role::Backup, backup, 1)];
    let mut facts = Facts { slots, offer, ..Facts::default() };
    let found = [system.disk, backup.disk];
    let mut fresh = [false; 2];
    let policy = Policy::from(&Boot::default());
    let name = |id: SlotId| ["A", "B"][id.0];
    let mut words = Vec::new();
    loop {
        match decide::next(&facts, &policy) {
            Next::Do(step, _) => {
                facts.apply(step);
                let id = step.slot();
                match step {
                    Step::Relabel(_, role) => {
                        let label = match role {
                            Role::System => "SYSFS",
                            Role::Backup => "BACKUPFS",
                            Role::Deprived => "DEPRIVED",
                            Role::Incoming | Role::Free => panic!("{step:?}"),
                        };
                        words.push(format!("{} → {label}", name(id)));
                    }
                    Step::Refuse(_, serial) => {
                        let text = format!("refuse {serial}");
                        if !words.contains(&text) {
                            words.push(text);
                        }
                    }
                    Step::Format(_) => fresh[id.0] = true,
                    Step::Install(_) => words.push(format!("install 3 in {}", name(id))),
                    Step::Clone { from, to } => {
                        words.push(format!("clone {} to {}", name(from), name(to)));
                    }
                    Step::Check(_) => match found[id.0] {
                        _ if fresh[id.0] => {}
                        Disk::Sound => {}
                        Disk::Damaged => facts.checked(id, Checked::Damaged(String::new())),
                        Disk::NoInit => facts.checked(id, Checked::NoInit(String::new())),
                    },
                    Step::Open(_) => panic!("{step:?}"),
                }
            }
            Next::Boot(id, why) => {
                let version = &facts.slots[id.0].system().unwrap().version;
                let last = matches!(why, Why::LastResort { .. });
                let resort = if last { ", as there is nothing better" } else { "" };
                words.push(format!("**boot {version}**{resort}"));
                return words.join(", ");
            }
            Next::Rescue(_) => {
                words.push("**rescue**".to_owned());
                return words.join(", ");
            }
            Next::Ask => panic!("the policy is auto"),
        }
    }
}

fn table() -> String {
    let mut table = String::from(
        "| SYSFS (A, version 2) | BACKUPFS (B, version 1) | without a newer release | with version 3 on offer |\n\
         |---|---|---|---|\n",
    );
    for system in SYSFS {
        for backup in BACKUPFS {
            let (kept, updated) = (outcome(system, backup, None), outcome(system, backup, Some(3)));
            table += &format!("| {} | {} | {kept} | {updated} |\n", system.name, backup.name);
        }
    }
    table
}

#[test]
fn the_table_in_the_documentation_is_what_the_code_decides() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/health.md");
    let text = fs::read_to_string(&path).unwrap();
    let begin = text.find(BEGIN).expect("the table's beginning") + BEGIN.len();
    let end = text.find(END).expect("the table's end");
    let table = table();
    if std::env::var_os("GSE_BLESS").is_some() {
        fs::write(&path, format!("{}{table}{}", &text[..begin], &text[end..])).unwrap();
    } else {
        assert!(text[begin..end] == table, "docs/health.md is not what the code decides:\n{table}");
    }
}
