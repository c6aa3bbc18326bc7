//! What only the image knows: its users, services and time zones. Read before anything is decided.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use gse_protocol::config::{near, system::Desired};

use crate::inside;

/// Where the time zones are.
pub(super) const ZONES: &str = "usr/share/zoneinfo";
/// Where systemd looks for units: systemd.unit(5). The first that has one counts.
const UNITS: [&str; 4] = [
    "etc/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// The text of `/etc/passwd`.
    pub passwd: String,
    /// The text of `/etc/group`.
    pub group: String,
    /// What starts its services.
    pub init: Init,
    /// The time zone that is wanted.
    pub zone: Zone,
}

/// Whether an image has a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Zone {
    /// It has, or none is wanted.
    #[default]
    Known,
    /// It has not.
    Missing {
        /// One that it has, and that is much alike.
        near: Option<String>,
    },
}

/// What starts the services of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Init {
    /// Nothing that is known here.
    #[default]
    Other,
    /// OpenRC.
    OpenRc {
        /// Names in `/etc/init.d`.
        services: Vec<String>,
        /// Names in `/etc/runlevels`.
        runlevels: Vec<String>,
    },
    /// systemd.
    Systemd {
        /// Absolute path of each unit, by name.
        units: BTreeMap<String, String>,
        /// The text of those that the configuration names, and of those that come with them.
        texts: BTreeMap<String, String>,
    },
}

impl Image {
    /// Reads it. Files that the configuration itself brings count as the image's.
    ///
    /// # Errors
    /// Those of the system.
    pub fn read(root: &Path, desired: &Desired) -> Result<Self> {
        let text = |path: &str| -> Result<String> {
            let bytes = match desired.file(path) {
                Some(wanted) => Some(wanted.file.bytes.clone()),
                None => inside::read(root, Path::new(path))?,
            };
            Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
        };
        let init = match inside::list(root, "etc/runlevels")? {
            Some(runlevels) => {
                Init::OpenRc { services: names(root, desired, "etc/init.d")?, runlevels }
            }
            None => systemd(root, desired, text)?,
        };
        let zone = match &desired.timezone {
            None => Zone::Known,
            Some(zone) => find_zone(root, zone)?,
        };
        Ok(Self { passwd: text("etc/passwd")?, group: text("etc/group")?, init, zone })
    }
}

fn names(root: &Path, desired: &Desired, folder: &str) -> Result<Vec<String>> {
    let mut names = inside::list(root, folder)?.unwrap_or_default();
    let own = desired.files.iter().filter_map(|f| f.path.strip_prefix(folder)?.strip_prefix('/'));
    names.extend(own.map(str::to_owned));
    Ok(names)
}

fn systemd(root: &Path, desired: &Desired, text: impl Fn(&str) -> Result<String>) -> Result<Init> {
    if inside::list(root, "usr/lib/systemd/system")?.is_none()
        && inside::list(root, "lib/systemd/system")?.is_none()
    {
        return Ok(Init::Other);
    }
    let mut units = BTreeMap::new();
    for folder in UNITS {
        for name in names(root, desired, folder)? {
            let path = format!("/{folder}/{name}");
            units.entry(name).or_insert(path);
        }
    }
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut waiting: Vec<String> = desired.runlevels.iter().map(|r| r.service.clone()).collect();
    while let Some(service) = waiting.pop() {
        let file = unit_file(&service, &units);
        let Some((name, path)) = file.and_then(|name| units.get_key_value(&name)) else { continue };
        if texts.contains_key(name) {
            continue;
        }
        let text = text(path.trim_start_matches('/'))?;
        let also = install(&text).into_iter().filter(|(key, _)| *key == "Also");
        waiting.extend(also.map(|(_, unit)| unit.to_owned()));
        texts.insert(name.clone(), text);
    }
    Ok(Init::Systemd { units, texts })
}

/// The settings in the `[Install]` of a unit, a word of their value each: systemd.unit(5).
pub(super) fn install(text: &str) -> Vec<(&str, &str)> {
    let mut out = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[Install]";
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            out.extend(value.split_whitespace().map(|word| (key.trim(), word)));
        }
    }
    out
}

/// The name of the file that describes a unit; `getty@tty1` is described by `getty@.service`.
pub(super) fn unit_file(service: &str, units: &BTreeMap<String, String>) -> Option<String> {
    let name = unit_name(service);
    if units.contains_key(&name) {
        return Some(name);
    }
    let (before, after) = name.split_once('@')?;
    let (_, kind) = after.rsplit_once('.')?;
    Some(format!("{before}@.{kind}")).filter(|template| units.contains_key(template))
}

/// A name without a kind is that of a service.
pub(super) fn unit_name(service: &str) -> String {
    const KINDS: [&str; 5] = [".service", ".socket", ".timer", ".path", ".target"];
    match KINDS.iter().any(|kind| service.ends_with(kind)) {
        true => service.to_owned(),
        false => format!("{service}.service"),
    }
}

fn find_zone(root: &Path, zone: &str) -> Result<Zone> {
    let path = format!("{ZONES}/{zone}");
    // A directory is no zone: reading it fails.
    if inside::read(root, Path::new(&path)).is_ok_and(|file| file.is_some()) {
        return Ok(Zone::Known);
    }
    let (region, city) = zone.rsplit_once('/').unwrap_or(("", zone));
    let names = inside::list(root, format!("{ZONES}/{region}").trim_end_matches('/'))?;
    let names = names.unwrap_or_default();
    let near = near(city, names.iter().map(String::as_str));
    let near = near.map(|city| format!("{region}/{city}").trim_start_matches('/').to_owned());
    Ok(Zone::Missing { near })
}
