//! systemd-boot: entries in `loader/entries`, which count their tries in their names.
//!
//! Formats: <https://uapi-group.org/specifications/specs/boot_loader_specification/>. An entry
//! `gse-7+3.conf` has three tries; each start makes it `gse-7+2-1.conf`, and so on. With none left it
//! is sorted behind all others, so what was started before is started again. Without a number it is good.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{FOLDER, RUNNING, State, TRIES, initramfs_name, kernel_name};
use crate::files;

/// The entries that GSE writes, and the one of the guide.
const DEFAULT: &str = "gse*";

pub(super) fn state(top: &Path, serial: u64) -> io::Result<State> {
    Ok(match find(top, serial)? {
        None => State::Absent,
        Some((_, None)) => State::Good,
        Some((_, Some(0))) => State::Failed,
        Some((_, Some(_))) => State::Trial,
    })
}

pub(super) fn try_once(top: &Path, serial: u64, options: &str) -> Result<()> {
    let entries = entries(top);
    fs::create_dir_all(&entries)?;
    let loader = top.join("loader/loader.conf");
    let before = match fs::read_to_string(&loader) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        text => text.unwrap_or_default(),
    };
    let text = entry(serial, options);
    files::replace(&entries.join(format!("gse-{serial}+{TRIES}.conf")), text.as_bytes(), 0o600)?;
    // Last, and mostly not needed: where another system is the default, it stays so.
    if let Some(after) = with_default(&before) {
        files::replace(&loader, after.as_bytes(), 0o600)?;
    }
    Ok(())
}

pub(super) fn confirm(top: &Path, serial: u64) -> io::Result<()> {
    let Some((path, Some(_))) = find(top, serial)? else { return Ok(()) };
    let good = entries(top).join(format!("gse-{serial}.conf"));
    fs::rename(path, &good)?;
    files::sync_parent(&good)
}

pub(super) fn remove(top: &Path, serial: u64) -> io::Result<()> {
    let Some((path, _)) = find(top, serial)? else { return Ok(()) };
    fs::remove_file(&path)?;
    files::sync_parent(&path)
}

fn entries(top: &Path) -> PathBuf {
    top.join("loader/entries")
}

/// The entry of a release, and how many tries it has left if they are counted.
fn find(top: &Path, serial: u64) -> io::Result<Option<(PathBuf, Option<u32>)>> {
    let listing = match fs::read_dir(entries(top)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        listing => listing?,
    };
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((found, left)) = parse_name(&name)
            && found == serial
        {
            return Ok(Some((entry.path(), left)));
        }
    }
    Ok(None)
}

/// Serial and tries left of `gse-SERIAL[+LEFT[-DONE]].conf`.
pub(super) fn parse_name(name: &str) -> Option<(u64, Option<u32>)> {
    let stem = name.strip_prefix("gse-")?.strip_suffix(".conf")?;
    let Some((serial, counter)) = stem.split_once('+') else {
        return Some((stem.parse().ok()?, None));
    };
    let left = counter.split_once('-').map_or(counter, |(left, _)| left);
    Some((serial.parse().ok()?, Some(left.parse().ok()?)))
}

/// Entries with a sort key come before those without, and of the same key the higher version first.
fn entry(serial: u64, options: &str) -> String {
    format!(
        "title GSE (release {serial})\nsort-key gse\nversion {serial}\nlinux /{FOLDER}/{}\ninitrd /{FOLDER}/{}\n\
         options {options} {RUNNING}={serial}\n",
        kernel_name(serial),
        initramfs_name(serial)
    )
}

/// `loader.conf` with what is written here as the default, unless it is so, or something else is.
pub(super) fn with_default(text: &str) -> Option<String> {
    let value = |line: &str| line.trim().strip_prefix("default").map(|rest| rest.trim().to_owned());
    match text.lines().find_map(value) {
        Some(default) if default == DEFAULT || !default.starts_with("gse") => None,
        _ => {
            let kept = text.lines().filter(|line| value(line).is_none());
            let kept: String = kept.map(|line| format!("{line}\n")).collect();
            Some(format!("default {DEFAULT}\n{kept}"))
        }
    }
}
