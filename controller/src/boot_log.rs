//! What BOOTFS keeps of each start: the kernel's log, in which the controller's own lines are, and what became of it.
//!
//! A log is written when the system is about to be started, and another one by whatever finds that the start failed:
//! rescue, a check of the administrator's, the guard of a startup that hangs.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{
    disk::mount::{Access, mount_boot},
    files,
    log::{Log, reason},
    mount::LOGS,
    report::{self, boot_id},
    supervisor::RUN_DIR,
};

/// The name, in [`RUN_DIR`], of where logs go.
const FILE: &str = "keep-logs";
/// Where they are on BOOTFS.
const FOLDER: &str = "gse/logs";

/// The most bytes that a log has: of a longer one the end is kept.
const MOST: usize = 256 << 10;

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'r> {
    /// The system is about to be started.
    Started,
    /// It failed: a sentence.
    Failed(&'r str),
}

impl Outcome<'_> {
    fn suffix(self) -> &'static str {
        match self {
            Self::Started => "-started.log",
            Self::Failed(_) => "-failed.log",
        }
    }
}

/// Says where [`keep`] keeps how many logs, in this and later processes: the partition of BOOTFS, and its filesystem as
/// the kernel names it.
///
/// # Errors
/// Those of the file in which it is written down.
pub fn announce(device: &Path, filesystem: &str, keep: u32) -> Result<()> {
    let path = Path::new(RUN_DIR).join(FILE);
    let place = format!("{keep} {filesystem} {}", device.display());
    fs::write(&path, place).with_context(|| format!("writing {}", path.display()))
}

/// Keeps the log of this start, where BOOTFS is known by now. A machine without room for it starts all the same.
pub fn keep(outcome: Outcome<'_>, log: &Log) {
    let place = fs::read_to_string(Path::new(RUN_DIR).join(FILE)).unwrap_or_default();
    let mut words = place.splitn(3, ' ');
    let keep = words.next().and_then(|keep| keep.parse().ok()).unwrap_or(0);
    let (Some(filesystem), Some(device), 1..) = (words.next(), words.next(), keep) else { return };
    if let Err(e) = keep_on(Path::new(device), filesystem, keep, outcome, log) {
        log.warn(format_args!("the log of this start is not kept: {}", reason(&e)));
    }
}

fn keep_on(
    device: &Path,
    filesystem: &str,
    keep: usize,
    outcome: Outcome<'_>,
    log: &Log,
) -> Result<()> {
    let text = text(outcome, &kernel_log());
    let top = mount_boot(device, filesystem, Path::new(LOGS), Access::ReadWrite, log)?;
    let done = add(&top.path().join(FOLDER), outcome, &text, keep);
    top.unmount()?;
    done
}

/// The log: what became of the start, how long its phases took, and what the kernel and the controller said.
fn text(outcome: Outcome<'_>, kmsg: &str) -> String {
    let mut text = match outcome {
        Outcome::Started => "started\n".to_owned(),
        Outcome::Failed(why) => format!("failed: {}\n", why.trim()),
    };
    // Writing to a string cannot fail. Before the handover there is no report.
    let _ = writeln!(text, "boot id: {}\n{}", boot_id(), report::text().unwrap_or_default());
    for (time, line) in lines(kmsg) {
        let _ = writeln!(text, "[{:5}.{:06}] {line}", time / 1_000_000, time % 1_000_000);
    }
    text
}

/// Adds a log to `folder`, and removes those that are too many. Whenever the power is cut, each log there is whole.
///
/// # Errors
/// Those of the filesystem.
pub fn add(folder: &Path, outcome: Outcome<'_>, text: &str, keep: usize) -> Result<()> {
    let doing = || format!("keeping a log in {} on BOOTFS", FOLDER);
    fs::create_dir_all(folder).with_context(doing)?;
    let names = files::names(folder).with_context(doing)?;
    let (number, surplus) = plan(names, outcome.suffix(), keep);
    // First, so that a full filesystem has room again.
    for name in surplus {
        fs::remove_file(folder.join(name)).with_context(doing)?;
    }
    let path = folder.join(format!("{number:08}{}", outcome.suffix()));
    files::replace(&path, &end(text, MOST), 0o600).with_context(doing)
}

/// The number of the next log, and the files that make room for it: the oldest of its kind, and what a cut left.
fn plan(mut names: Vec<String>, suffix: &str, keep: usize) -> (u64, Vec<String>) {
    let number = |name: &String| name.split_once('-')?.0.parse::<u64>().ok();
    let next = names.iter().filter_map(number).max().map_or(1, |last| last.saturating_add(1));
    // Numbers have as many digits as a machine has starts in its life.
    names.sort_unstable();
    let same = names.iter().filter(|name| name.ends_with(suffix)).count();
    let mut surplus = (same + 1).saturating_sub(keep);
    names.retain(|name| {
        let oldest = name.ends_with(suffix) && surplus > 0;
        surplus -= usize::from(oldest);
        oldest || name.ends_with(files::UNFINISHED)
    });
    (next, names)
}

/// The first line of a text, and as much of its end as fits into so many bytes with it.
fn end(text: &str, most: usize) -> Vec<u8> {
    let text = text.as_bytes();
    if text.len() <= most {
        return text.to_owned();
    }
    let mut lines = text.splitn(2, |byte| *byte == b'\n');
    let first: Vec<u8> = lines.next().into_iter().flatten().copied().take(most / 4).collect();
    let rest = lines.next().unwrap_or_default();
    let room = most.saturating_sub(first.len() + 5);
    let rest = rest.get(rest.len().saturating_sub(room)..).unwrap_or_default();
    // Not half a line.
    let rest = rest.splitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default();
    [&first, b"\n...\n".as_slice(), rest].concat()
}

/// The records of the kernel's log, as `/dev/kmsg` gives them.
pub fn kernel_log() -> String {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg");
    let Ok(mut file) = file else { return String::new() };
    read_records(|record| file.read(record))
}

/// More than a kernel's log has room for; one that grows as fast as it is read is left there.
const MOST_OF_LOG: usize = 16 << 20;

/// What `read` gives of a log, of which each read is one record, and the last fails with EAGAIN.
fn read_records(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> String {
    let mut text = String::new();
    let mut record = [0; 8192];
    while text.len() < MOST_OF_LOG {
        match read(&mut record) {
            Ok(n @ 1..) => {
                text.push_str(&String::from_utf8_lossy(record.get(..n).unwrap_or_default()));
            }
            // The next record was written over meanwhile. The one after it is the oldest that is left.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            _ => break,
        }
    }
    text
}

/// Microseconds since the kernel started, and text, of each record: <https://docs.kernel.org/admin-guide/abi-testing.html>
/// (`/dev/kmsg`).
pub fn lines(kmsg: &str) -> impl Iterator<Item = (u64, &str)> {
    kmsg.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| {
        let (head, text) = line.split_once(';')?;
        Some((head.split(',').nth(2)?.parse().ok()?, text))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn the_kernel_log_is_kept_with_its_times() {
        let kmsg = "6,1,0,-;one\n SUBSYSTEM=pci\n4,2,12500000,-;two; and more\n";
        let text = text(Outcome::Failed("no disk\n"), kmsg);
        assert!(text.starts_with("failed: no disk\nboot id: "), "{text}");
        assert!(text.ends_with("\n[    0.000000] one\n[   12.500000] two; and more\n"), "{text}");
    }

    #[test]
    fn records_that_were_written_over_are_not_the_end_of_the_log() {
        let mut answers =
            [Ok("1"), Err(Errno::PIPE), Ok("2"), Err(Errno::PIPE), Err(Errno::AGAIN), Ok("3")]
                .into_iter();
        let text = read_records(|record| match answers.next().unwrap() {
            Ok(text) => {
                record[..text.len()].copy_from_slice(text.as_bytes());
                Ok(text.len())
            }
            Err(number) => Err(number.into()),
        });
        assert_eq!(text, "12");
        let mut endless = 0;
        read_records(|record| {
            endless += record.len();
            Ok(record.len())
        });
        assert!(endless < MOST_OF_LOG + 8193);
    }

    #[test]
    fn logs_are_bounded_in_number_and_failures_are_kept_longer() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("logs");
        let add = |outcome, text: &str| add(&folder, outcome, text, 2).unwrap();
        add(Outcome::Failed("a cable"), "failed: a cable\n");
        for _ in 0..4 {
            add(Outcome::Started, "started\n");
        }
        // What a power cut left, and what is somebody else's.
        fs::write(folder.join("00000006-started.log.gse-new"), "half").unwrap();
        fs::write(folder.join("README"), "mine").unwrap();
        let long: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        add(Outcome::Started, &format!("started\n{long}"));
        let mut names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        let expected =
            ["00000001-failed.log", "00000005-started.log", "00000007-started.log", "README"];
        assert_eq!(names, expected);
        let cut = fs::read_to_string(folder.join("00000007-started.log")).unwrap();
        assert!(cut.len() <= MOST && cut.len() > MOST - 100, "{}", cut.len());
        assert!(cut.starts_with("started\n...\nline ") && cut.ends_with("line 99999\n"));
    }

    #[test]
    fn a_long_first_line_leaves_room_for_the_end() {
        let text = format!("failed: {}\n{}", "\u{e4}".repeat(500), "line\n".repeat(500));
        let cut = end(&text, 400);
        assert!(cut.len() <= 400 && cut.len() > 350 && cut.ends_with(b"line\n"), "{}", cut.len());
    }
}
