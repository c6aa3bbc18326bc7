//! What machine the numbers are from.

use std::{fs, thread};

use anyhow::{Context as _, Result};
use gse_qemu::process;

/// Processor, cores, kernel, memory and date, in a line.
pub(crate) fn describe() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let model = value_of(&cpus, "model name").unwrap_or("unknown processor");
    let memory = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let kib = value_of(&memory, "MemTotal").and_then(|v| v.split(' ').next()?.parse::<u64>().ok());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let uname = rustix::system::uname();
    let mut date = process::command("date");
    date.args(["-u", "+%Y-%m-%d"]);
    Ok(format!(
        "Measured on {}: {model}, {cores} cores, {} GiB, Linux {}.",
        process::output(date)?.trim(),
        kib.unwrap_or_default().div_ceil(1 << 20),
        uname.release().to_string_lossy(),
    ))
}

/// The first `KEY : VALUE` of a file in `/proc`.
fn value_of<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim())
}
