//! GRUB: menu entries in `gse.cfg`, which `grub.cfg` reads, and the variables of `grubenv`.
//!
//! `next_entry` is started once: `grub.cfg` takes it away before it does so, as `grub-mkconfig` writes it for
//! `GRUB_DEFAULT=saved`. `saved_entry` is what is started otherwise. Format of `grubenv`: 1024 bytes, a line of
//! comment, `NAME=VALUE` lines, and `#` to the end
//! (<https://www.gnu.org/software/grub/manual/grub/html_node/Environment-block.html>).

use std::{fs, io, path::Path};

use anyhow::{Result, bail};

use super::{FOLDER, RUNNING, State, initramfs_name, kernel_name};
use crate::files;

const ENV: &str = "grubenv";
const ENTRIES: &str = "gse.cfg";
const SIGNATURE: &str = "# GRUB Environment Block\n";
const SIZE: usize = 1024;
/// The release whose kernel was to be tried last.
const TRIAL: &str = "gse_trial";

/// Whether `grub.cfg` reads what is written here.
pub(super) fn check(dir: &Path) -> Result<()> {
    let config = fs::read(dir.join("grub.cfg"))?;
    let config = String::from_utf8_lossy(&config).into_owned();
    if ![ENTRIES, "next_entry"].iter().all(|word| config.contains(word)) {
        bail!(
            "grub.cfg on BOOTFS does not read {ENTRIES}, or not next_entry, so no kernel is installed there: docs/guide.md has the lines"
        );
    }
    Ok(())
}

pub(super) fn state(dir: &Path, serial: u64, running: Option<u64>) -> io::Result<State> {
    let env = load(dir)?;
    let is = |name: &str, value: &str| get(&env, name) == Some(value);
    let id = id(serial);
    Ok(if is("saved_entry", &id) {
        State::Good
    } else if !is(TRIAL, &serial.to_string()) {
        State::Absent
    } else if running == Some(serial) || is("next_entry", &id) {
        State::Trial
    } else {
        State::Failed
    })
}

pub(super) fn try_once(dir: &Path, serial: u64, running: Option<u64>, options: &str) -> Result<()> {
    let all = running.into_iter().filter(|running| *running != serial).chain([serial]);
    let menu: String = all.map(|serial| entry(serial, options)).collect();
    let menu = format!("# Written by GSE at each new kernel.\n{menu}");
    files::replace(&dir.join(ENTRIES), menu.as_bytes(), 0o600)?;
    let mut env = load(dir)?;
    set(&mut env, TRIAL, &serial.to_string());
    set(&mut env, "next_entry", &id(serial));
    Ok(store(dir, &env)?)
}

pub(super) fn confirm(dir: &Path, serial: u64) -> io::Result<()> {
    let mut env = load(dir)?;
    set(&mut env, "saved_entry", &id(serial));
    store(dir, &env)
}

fn id(serial: u64) -> String {
    format!("gse-{serial}")
}

fn entry(serial: u64, options: &str) -> String {
    // In GRUB's language a quoted word has no special characters but the quote.
    let quoted: Vec<String> =
        options.split(' ').map(|word| format!("'{}'", word.replace('\'', ""))).collect();
    let (options, kernel, initramfs) =
        (quoted.join(" "), kernel_name(serial), initramfs_name(serial));
    format!(
        "menuentry \"GSE (release {serial})\" --id {} {{\n\tsearch --no-floppy --label BOOTFS --set=root\n\
         \tlinux /{FOLDER}/{kernel} {options} {RUNNING}={serial}\n\tinitrd /{FOLDER}/{initramfs}\n}}\n",
        id(serial)
    )
}

/// The variables of `grubenv`, a line each; none where there is no such file.
fn load(dir: &Path) -> io::Result<Vec<String>> {
    match fs::read(dir.join(ENV)) {
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// A comment is no variable; the last one fills the block.
pub(super) fn parse(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains('='));
    lines.map(str::to_owned).collect()
}

fn get<'e>(env: &'e [String], name: &str) -> Option<&'e str> {
    env.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn set(env: &mut Vec<String>, name: &str, value: &str) {
    env.retain(|line| line.split_once('=').is_none_or(|(known, _)| known != name));
    env.push(format!("{name}={value}"));
}

/// Block for block as GRUB writes it, in a file of its own: a cut leaves the old one or the new one.
fn store(dir: &Path, env: &[String]) -> io::Result<()> {
    let block = format(env).ok_or_else(|| io::Error::other("grubenv has no room left"))?;
    files::replace(&dir.join(ENV), block.as_bytes(), 0o600)
}

pub(super) fn format(env: &[String]) -> Option<String> {
    let mut block = SIGNATURE.to_owned();
    for line in env {
        block.push_str(line);
        block.push('\n');
    }
    let rest = SIZE.checked_sub(block.len())?;
    block.push_str(&"#".repeat(rest));
    Some(block)
}
