//! The default configuration: it can be read, and it shows every key that there is.

use std::{collections::BTreeSet, fs, path::Path};

use gse_protocol::config::{Boot, Drives, Error, Machines, Mounts, Network, Sources};

type Parse = fn(&str) -> Result<(), Error>;

const FILES: [(&str, Parse); 6] = [
    ("sources.toml", |t| Sources::parse(t).map(drop)),
    ("controller/boot.toml", |t| Boot::parse(t).map(drop)),
    ("controller/network.toml", |t| Network::parse(t).map(drop)),
    ("controller/drives.toml", |t| Drives::parse(t).map(drop)),
    ("controller/mounts.toml", |t| Mounts::parse(t).map(drop)),
    ("controller/machines.toml", |t| Machines::parse(t).map(drop)),
];

fn read(name: &str) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(top.join("config.d").join(name)).unwrap()
}

/// The file with every setting switched on: `#key`, as against `# words`.
fn switched_on(text: &str) -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(on).collect()
}

/// The names of all keys, at whatever depth.
fn keys(value: &toml::Value, found: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        toml::Value::Array(values) => values.iter().for_each(|v| keys(v, found)),
        _ => {}
    }
}

/// What serde would have accepted: it lists the names when it meets one that it does not know.
fn known(parse: Parse, text: &str) -> BTreeSet<String> {
    let error = parse(text).unwrap_err().to_string();
    let list = error.split("expected").nth(1).unwrap_or_else(|| panic!("{text}: {error}"));
    let list = list.split(" (did you mean").next().unwrap();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_default_configuration_can_be_read_as_it_is() {
    for (name, parse) in FILES {
        parse(&read(name)).unwrap();
    }
}

#[test]
fn every_setting_can_be_switched_on() {
    for (name, parse) in FILES {
        let text = switched_on(&read(name));
        parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    }
}

#[test]
fn what_is_shown_as_a_default_is_one() {
    let text = switched_on(&read("controller/boot.toml"));
    // What is not there by default.
    let examples = ["password = ", "token = ", "boot_order = ", "window = "];
    let without: String = text
        .lines()
        .filter(|line| !examples.iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(Boot::parse(&without).unwrap(), Boot::default());
    assert_eq!(Mounts::parse(&read("controller/mounts.toml")).unwrap(), Mounts::default());
    let network = read("controller/network.toml");
    let timeouts: String = network
        .lines()
        .filter(|l| l.contains("_timeout = "))
        .map(|l| format!("{}\n", &l[1..]))
        .collect();
    assert_eq!(Network::parse(&timeouts).unwrap(), Network::default());
}

#[test]
fn every_key_that_there_is_is_shown() {
    // Where a key can stand, with one that nobody knows in that place.
    let places: [(&str, &[&str]); 6] = [
        ("sources.toml", &["zz = 1"]),
        (
            "controller/boot.toml",
            &[
                "zz = 1",
                "[update]\nzz = 1",
                "[health]\nzz = 1",
                "[rescue]\nzz = 1",
                "[init]\nzz = 1",
                "[memory]\nzz = 1",
                "[wipe]\nzz = 1",
            ],
        ),
        (
            "controller/network.toml",
            &["zz = 1", "[[interface]]\nzz = 1", "[[interface]]\nmatch.zz = 1"],
        ),
        (
            "controller/drives.toml",
            &[
                "zz = 1",
                "[[disk]]\nzz = 1",
                "[[disk]]\nmatch.zz = 1",
                "[[disk]]\n[[disk.partition]]\nzz = 1",
            ],
        ),
        ("controller/mounts.toml", &["zz = 1", "[[tmpfs]]\nzz = 1", "[[bind]]\nzz = 1"]),
        (
            "controller/machines.toml",
            &["zz = 1", "[[machine]]\nzz = 1", "[[machine]]\nmatch.zz = 1"],
        ),
    ];
    for ((name, parse), (place, wrong)) in FILES.into_iter().zip(places) {
        assert_eq!(name, place);
        let value = toml::Value::Table(switched_on(&read(name)).parse().unwrap());
        let mut shown = BTreeSet::new();
        keys(&value, &mut shown);
        for text in wrong {
            let known = known(parse, text);
            assert!(!known.is_empty());
            let missing: Vec<_> = known.difference(&shown).collect();
            assert!(missing.is_empty(), "{name} does not show {missing:?}");
        }
    }
}
