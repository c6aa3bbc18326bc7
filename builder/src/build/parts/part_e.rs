//! Part E: the files of `config.d/system`, but for those of Portage and the locales, which part C needs.

use std::{fs, io, os::unix::fs::symlink, path::Path};

use super::part_c::is_of_portage;
use crate::build::{
    Error,
    config_names::{LOCALES, TIMEZONE},
    inside::Inside,
};

/// Where time zones are.
const ZONES: &str = "/usr/share/zoneinfo";
/// The machine's own.
const LOCALTIME: &str = "/etc/localtime";

/// `gconfigure`
pub(in crate::build) fn configure(inside: &mut Inside<'_>) -> Result<(), Error> {
    let system = inside.system;
    let others = system.files.iter().filter(|(path, _)| !is_of_portage(path) && *path != LOCALES);
    inside.write_files(others)?;
    let Some(file) = system.files.get(TIMEZONE) else { return Ok(()) };
    let text = String::from_utf8_lossy(&file.bytes);
    let zone = text.trim();
    let items = [format!("time zone {zone}")];
    inside.loops.work(&format!("link {LOCALTIME}"), &items, || set_zone(zone))?;
    Ok(())
}

/// As `emerge --config sys-libs/timezone-data` does it.
fn set_zone(zone: &str) -> io::Result<()> {
    let known = Path::new(ZONES).join(zone);
    if zone.split('/').any(|part| part == "..") || !known.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no {}", known.display()),
        ));
    }
    let new = format!("{LOCALTIME}.new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => symlink(format!("..{}", known.display()), &new)?,
    }
    fs::rename(&new, LOCALTIME)
}
