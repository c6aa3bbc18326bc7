//! Creation of an image: what packing with tar and zstd takes, beside the same with an index, checksums and
//! signatures.

use anyhow::Result;
use gse_qemu::{fixtures, lab::program, process};

use crate::{
    measure::{Command, by_turns, say, warm},
    scratch::Scratch,
    table::{Quantity, Row, Section, Target},
};

const OURS: &str = "\"$GSE\" --archive=\"$TREE\" --version=\"$(date +%s.%N)\" --dist=\"$DIST\" --key=\"$KEY\" >/dev/null";
const PIPE: &str = "tar -c --xattrs --acls --numeric-owner -C \"$TREE\" . | zstd -q -f -T0 -3 -o \"$OUT\"; sync \"$OUT\"";

pub(crate) fn measure(scratch: &Scratch, runs: usize) -> Result<Section> {
    let tree = fixtures::large_tree()?;
    let gse = program("gse")?;
    let key = scratch.path("key");
    let mut keygen = process::command(&gse);
    keygen.arg("--keygen").arg(&key);
    process::output(keygen)?;

    let ours = Command::new(OURS)
        .with("GSE", gse)
        .with("TREE", &tree)
        .with("DIST", scratch.path("dist.d"))
        .with("KEY", key);
    let pipe = Command::new(PIPE).with("TREE", &tree).with("OUT", scratch.path("image.tar.zst"));
    warm(&tree)?;
    let commands = [ours, pipe];
    let medians = by_turns(&commands, runs, scratch.dir(), |_| {
        say("an image of a large tree");
        // What an earlier run left to be written is not this one's work.
        rustix::fs::sync();
        Ok(())
    })?;
    let [ours, pipe] = medians.as_slice() else {
        anyhow::bail!("two commands gave no two results")
    };
    let row = Row::new(
        "image of a large tree, synced",
        Quantity::Seconds(ours.seconds),
        Target::AtMost(1.0),
    )
    .beside("tar \\| zstd -T0", Quantity::Seconds(pipe.seconds));
    let commands = [("gse", OURS), ("tar | zstd -T0", PIPE)];
    Ok(Section {
        name: "archive",
        rows: vec![row],
        commands: commands.map(|(n, l)| (n.to_owned(), l.to_owned())).into(),
    })
}
