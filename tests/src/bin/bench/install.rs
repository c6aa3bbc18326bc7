//! Installation of an image onto a fresh filesystem, beside tar, on four cores and on two.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use gse_qemu::{fixtures, lab::program, process};

use crate::{
    fresh::Fresh,
    measure::{Command, Run, by_turns, say, warm},
    scratch::Scratch,
    table::{Quantity, Row, Section, Target},
};

const OURS: &str = "$PEAK \"$INSTALL\" \"$IMAGE\" \"$KEY.pub\" \"$TARGET\" >/dev/null";
const PIPE: &str = "$PEAK zstd -q -dc \"$IMAGE/system.tar.zst\" |
    $PEAK tar -x --xattrs --xattrs-include='*' --acls -p --numeric-owner -C \"$TARGET\"; sync -f \"$TARGET\"";

const MEMORY: Quantity = Quantity::Bytes(64 << 20);
/// Of the tar pipe's time.
const ON_FOUR: f64 = 0.8;
const ON_TWO: f64 = 1.0;

pub(crate) fn measure(scratch: &Scratch, runs: usize) -> Result<Section> {
    let image = image(scratch)?;
    let mut rows = Vec::new();
    for filesystem in ["btrfs", "ext4"] {
        for (cores, cpus, most) in [(4, "0-3", ON_FOUR), (2, "0,1", ON_TWO)] {
            say(&format!("installing onto {filesystem} with {cores} cores"));
            let [ours, pipe] = one(scratch, &image, filesystem, cpus, runs)?;
            let what = |what| format!("{what}, {filesystem}, {cores} cores");
            let name = "zstd -dc \\| tar -x";
            let row = Row::new(what("time"), Quantity::Seconds(ours.seconds), Target::AtMost(most));
            rows.push(row.beside(name, Quantity::Seconds(pipe.seconds)));
            let peak = Quantity::Bytes(ours.peak);
            let row = Row::new(what("memory"), peak, Target::Absolute(MEMORY));
            rows.push(row.beside(name, Quantity::Bytes(pipe.peak)));
        }
    }
    let commands = [("gse", OURS), ("zstd -dc | tar -x", PIPE)];
    Ok(Section {
        name: "install",
        rows,
        commands: commands.map(|(n, l)| (n.to_owned(), l.to_owned())).into(),
    })
}

/// A signed image of the large tree; its folder. The key is `key` in the scratch directory.
pub(crate) fn image(scratch: &Scratch) -> Result<PathBuf> {
    say("an image to install");
    let gse = program("gse")?;
    let key = scratch.path("key");
    let mut keygen = process::command(&gse);
    keygen.arg("--keygen").arg(&key);
    process::output(keygen)?;
    let dist = scratch.path("dist.d");
    let mut archive = process::command(&gse);
    archive.arg("--archive").arg(fixtures::large_tree()?).args(["--version=1", "--name=large"]);
    archive.arg("--dist").arg(&dist).arg("--key").arg(&key);
    process::output(archive)?;
    let image = dist.join("images/large-1");
    warm(&image)?;
    Ok(image)
}

/// Both, by turns, each onto a filesystem that was just made.
fn one(
    scratch: &Scratch,
    image: &Path,
    filesystem: &str,
    cpus: &str,
    runs: usize,
) -> Result<[Run; 2]> {
    let target = scratch.path("target");
    let command = |line| {
        Command::new(line)
            .within(&["taskset", "--cpu-list", cpus])
            .with("IMAGE", image)
            .with("TARGET", &target)
    };
    let ours =
        command(OURS).with("INSTALL", program("gse-install")?).with("KEY", scratch.path("key"));
    let mut mounted = None;
    let medians = by_turns(&[ours, command(PIPE)], runs, scratch.dir(), |_| {
        drop(mounted.take());
        mounted = Some(Fresh::new(&scratch.path("disk.img"), filesystem, &target)?);
        rustix::fs::sync();
        Ok(())
    })?;
    match medians.as_slice() {
        [ours, pipe] => Ok([*ours, *pipe]),
        _ => bail!("two commands gave no two results"),
    }
}
