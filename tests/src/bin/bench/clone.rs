//! A clone of an installed system on another filesystem, beside `cp -a`.

use anyhow::{Result, bail};
use gse_qemu::{lab::program, process};

use crate::{
    fresh::Fresh,
    install::image,
    measure::{Command, by_turns, say},
    scratch::Scratch,
    table::{Quantity, Row, Section, Target},
};

const OURS: &str = "$PEAK \"$CLONE\" \"$IMAGE\" \"$KEY.pub\" \"$SOURCE\" \"$TARGET\" >/dev/null";
const COPY: &str = "$PEAK cp -a \"$SOURCE/.\" \"$TARGET\"; sync -f \"$TARGET\"";

const MEMORY: Quantity = Quantity::Bytes(128 << 20);
/// Of the copy's time.
const MOST: f64 = 1.2;

pub(crate) fn measure(scratch: &Scratch, runs: usize) -> Result<Section> {
    let image = image(scratch)?;
    let (source, target) = (scratch.path("source"), scratch.path("target"));
    let mut rows = Vec::new();
    for filesystem in ["btrfs", "ext4"] {
        say(&format!("cloning from {filesystem} to {filesystem}"));
        let installed = Fresh::new(&scratch.path("source.img"), filesystem, &source)?;
        let mut install = process::command(program("gse-install")?);
        install.arg(&image).arg(scratch.path("key.pub")).arg(&source);
        process::output(install)?;

        let command = |line| Command::new(line).with("SOURCE", &source).with("TARGET", &target);
        let ours = command(OURS)
            .with("CLONE", program("gse-clone")?)
            .with("IMAGE", &image)
            .with("KEY", scratch.path("key"));
        let mut mounted = None;
        let medians = by_turns(&[ours, command(COPY)], runs, scratch.dir(), |_| {
            drop(mounted.take());
            mounted = Some(Fresh::new(&scratch.path("target.img"), filesystem, &target)?);
            rustix::fs::sync();
            installed.cool()
        })?;
        let [ours, copy] = medians.as_slice() else { bail!("two commands gave no two results") };
        let what = |what| format!("{what}, {filesystem} to {filesystem}");
        let time = Row::new(what("time"), Quantity::Seconds(ours.seconds), Target::AtMost(MOST));
        rows.push(time.beside("cp -a", Quantity::Seconds(copy.seconds)));
        let memory = Row::new(what("memory"), Quantity::Bytes(ours.peak), Target::Absolute(MEMORY));
        rows.push(memory.beside("cp -a", Quantity::Bytes(copy.peak)));
    }
    let commands = [("gse", OURS), ("cp -a", COPY)];
    Ok(Section {
        name: "clone",
        rows,
        commands: commands.map(|(n, l)| (n.to_owned(), l.to_owned())).into(),
    })
}
