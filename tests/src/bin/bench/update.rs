//! An update from a Debian as it was released to the same with its security updates, beside rsync, casync, ostree, and the
//! full image that somebody without any of them would fetch.
//!
//! All of it happens in a network namespace of its own, whose loopback counts what goes over it, in both directions.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use gse_qemu::{fixtures, lab::program, process};
use gse_tests::netns::Host;

use crate::{
    fresh::Fresh,
    measure::{Command, Run, median, say},
    scratch::Scratch,
    table::{Quantity, Row, Section, Target},
};

const FULL: &str = "tar -c --xattrs --acls --numeric-owner -C \"$NEW\" . | zstd -q -T0 -19 -o \"$WORK/full.tar.zst\"";
const FULL_UPDATE: &str = "$PEAK curl -sf \"$URL/full.tar.zst\" | $PEAK zstd -q -dc |
    $PEAK tar -x --xattrs --xattrs-include='*' --acls -p --numeric-owner -C \"$TARGET\"; sync -f \"$TARGET\"";

const ARCHIVE: &str = "$PEAK \"$GSE\" --archive=\"$TREE\" --version=\"$VERSION\" --name=pair --patches=\"$PATCHES\" \
    --dist=\"$WORK/dist.d\" --key=\"$WORK/key\" >\"$WORK/made\"";
const UPDATE: &str = "$PEAK \"$UPDATE\" \"$URL/dist.d/\" \"$WORK/key.pub\" \"$TARGET\" \"$SOURCE\" \
    \"$WORK/dist.d/images/pair-1\" >/dev/null";

const RSYNC: &str = "$PEAK rsync -aHAX --numeric-ids --no-whole-file --fuzzy --copy-dest=\"$SOURCE\" \
    rsync://127.0.0.1:8730/new/ \"$TARGET\"; sync -f \"$TARGET\"";
/// `$NEW` is the served tree.
const RSYNC_SERVER: &str = "printf '[new]\\npath = %s\\nuse chroot = no\\nuid = 0\\ngid = 0\\n' \"$NEW\" >\"$WORK/rsyncd.conf\";
    exec rsync --daemon --no-detach --port=8730 --config=\"$WORK/rsyncd.conf\"";

const CASYNC: &str =
    "casync make --store=\"$WORK/store.castr\" \"$WORK/new.caidx\" \"$NEW\" >/dev/null";
const CASYNC_UPDATE: &str = "$PEAK casync extract --store=\"$URL/store.castr\" --seed=\"$SOURCE\" --seed-output=no \
    \"$URL/new.caidx\" \"$TARGET\"; sync -f \"$TARGET\"";

/// A tree in a repository has no devices.
const OSTREE: &str = "ostree --repo=\"$WORK/repo\" init --mode=archive
    for tree in OLD NEW; do
        tar -c --exclude='./dev/*' -C \"${!tree}\" . | ostree --repo=\"$WORK/repo\" commit -b $tree --tree=tar=/dev/stdin
    done >/dev/null";
const OSTREE_DELTA: &str = "$PEAK ostree --repo=\"$WORK/repo\" static-delta generate --inline --min-fallback-size=0 --from=OLD --to=NEW \
    --filename=\"$WORK/delta\" >/dev/null";
const OSTREE_READY: &str = "ostree --repo=\"$SOURCE/repo\" init --mode=bare
    ostree --repo=\"$SOURCE/repo\" pull-local \"$WORK/repo\" OLD >/dev/null";
const OSTREE_UPDATE: &str = "curl -sf \"$URL/delta\" -o \"$SOURCE/delta\"
    $PEAK ostree --repo=\"$SOURCE/repo\" static-delta apply-offline \"$SOURCE/delta\"
    $PEAK ostree --repo=\"$SOURCE/repo\" checkout -H \"$REVISION\" \"$SOURCE/checkout\"; sync -f \"$SOURCE\"";

const MEMORY: Quantity = Quantity::Bytes(128 << 20);
/// Of the full image.
const FETCHED: f64 = 0.1;
/// Of the time that ostree takes to make its delta.
const MADE: f64 = 0.25;
const PORT: u16 = 8470;

/// What is measured with, and where.
struct Bench<'s> {
    scratch: &'s Scratch,
    host: Host,
    old: PathBuf,
    new: PathBuf,
}

/// What an update took, and what went over the network for it.
#[derive(Clone, Copy)]
struct Update {
    run: Run,
    bytes: u64,
}

pub(crate) fn measure(scratch: &Scratch, runs: usize) -> Result<Section> {
    let (old, new) = fixtures::pair()?;
    let bench = Bench { scratch, host: Host::alone(), old, new };
    let work = scratch.dir();
    say("an update: serving");
    let mut serve = bench.host.command(program("gse")?);
    serve.arg(format!("--serve=127.0.0.1:{PORT}")).arg("--dist").arg(work);
    let _server = process::spawn(serve)?;
    let mut rsync = bench.host.command("bash");
    rsync.arg("-euc").arg(RSYNC_SERVER).env("NEW", &bench.new).env("WORK", work);
    let _rsync = process::spawn(rsync)?;

    say("an update: gse's patches");
    let (gse, patches) = bench.archive()?;
    let image = work.join("dist.d/images/pair-1");
    let ours = bench.updates(UPDATE, runs, |source| {
        let mut install = process::command(program("gse-install")?);
        install.arg(&image).arg(work.join("key.pub")).arg(source);
        process::output(install).map(drop).context("installing the old version")
    })?;
    fs::remove_dir_all(work.join("dist.d")).context("removing what gse made")?;

    let copy = |source: &Path| {
        let mut cp = process::command("cp");
        cp.arg("-a").arg(bench.old.join(".")).arg(source);
        process::output(cp).map(drop).context("copying the old version")
    };
    say("an update: rsync");
    let rsync = bench.updates(RSYNC, runs, copy)?;
    say("an update: casync");
    bench.command(CASYNC)?.run(work)?;
    let casync = bench.updates(CASYNC_UPDATE, runs, copy)?;
    fs::remove_dir_all(work.join("store.castr")).context("removing what casync made")?;
    say("an update: ostree's delta");
    bench.command(OSTREE)?.run(work)?;
    let delta = bench.command(OSTREE_DELTA)?.run(work)?;
    let ostree = bench.updates(OSTREE_UPDATE, runs, |source| {
        let ready = bench.command(OSTREE_READY)?.with("SOURCE", source);
        ready.run(work).map(drop)
    })?;
    fs::remove_dir_all(work.join("repo")).context("removing what ostree made")?;
    say("an update: the full image");
    bench.command(FULL)?.run(work)?;
    let full = bench.updates(FULL_UPDATE, runs, |_| Ok(()))?;

    let mut rows = Vec::new();
    let peers =
        [("rsync", rsync), ("casync", casync), ("ostree", ostree), ("zstd -19 \\| tar", full)];
    for (name, peer) in peers {
        let target = match name {
            "zstd -19 \\| tar" => Target::AtMost(FETCHED),
            _ => Target::AtMost(1.0),
        };
        let row = Row::new("bytes over the network", Quantity::Bytes(ours.bytes), target);
        rows.push(row.beside(name, Quantity::Bytes(peer.bytes)));
    }
    for (name, peer) in peers {
        let seconds = Quantity::Seconds(ours.run.seconds);
        let row = Row::new("time of the update", seconds, Target::AtMost(1.0));
        rows.push(row.beside(name, Quantity::Seconds(peer.run.seconds)));
    }
    for (name, peer) in peers {
        let row = Row::new("memory", Quantity::Bytes(ours.run.peak), Target::Absolute(MEMORY));
        rows.push(row.beside(name, Quantity::Bytes(peer.run.peak)));
    }
    let row = Row::new("making patches", Quantity::Seconds(patches), Target::AtMost(MADE));
    rows.push(row.beside("ostree", Quantity::Seconds(delta.seconds)));
    let row = Row::new("memory for the patches", Quantity::Bytes(gse.peak), Target::None);
    rows.push(row.beside("ostree", Quantity::Bytes(delta.peak)));
    let commands = [
        ("gse: each image; the second has the patches", ARCHIVE),
        ("gse: the update", UPDATE),
        ("rsync", RSYNC),
        ("casync: the server's side", CASYNC),
        ("casync", CASYNC_UPDATE),
        ("ostree: the server's side", OSTREE),
        ("ostree: the delta", OSTREE_DELTA),
        ("ostree", OSTREE_UPDATE),
        ("full image: the server's side", FULL),
        ("full image", FULL_UPDATE),
    ];
    let commands = commands.map(|(name, line)| (name.to_owned(), line.to_owned())).into();
    Ok(Section { name: "update", rows, commands })
}

impl Bench<'_> {
    /// A command with all that any of them asks for.
    fn command(&self, line: &str) -> Result<Command> {
        let refs = self.scratch.path("repo/refs/heads/NEW");
        let revision = fs::read_to_string(refs).unwrap_or_default();
        Ok(Command::new(line)
            .within(&["nsenter", &self.host.enter(), "--"])
            .with("OLD", &self.old)
            .with("NEW", &self.new)
            .with("WORK", self.scratch.dir())
            .with("GSE", program("gse")?)
            .with("UPDATE", program("gse-update")?)
            .with("URL", format!("http://127.0.0.1:{PORT}"))
            .with("REVISION", revision.trim()))
    }

    /// Makes both images, the second with patches from the first. What the second took, and how many seconds of it the
    /// patches: a second image of it without patches tells.
    fn archive(&self) -> Result<(Run, f64)> {
        let mut keygen = process::command(program("gse")?);
        keygen.arg("--keygen").arg(self.scratch.path("key"));
        process::output(keygen)?;
        let one = |tree: &Path, version, patches| {
            let command = self.command(ARCHIVE)?.with("TREE", tree);
            command.with("VERSION", version).with("PATCHES", patches).run(self.scratch.dir())
        };
        one(&self.old, "1", "0")?;
        let without = one(&self.new, "without", "0")?;
        let image = self.scratch.path("dist.d/images/pair-without");
        fs::remove_dir_all(&image).with_context(|| format!("removing {}", image.display()))?;
        let with = one(&self.new, "2", "1")?;
        Ok((with, with.seconds - without.seconds))
    }

    /// Updates some times, from what `ready` puts on the machine's disk.
    fn updates(
        &self,
        line: &str,
        runs: usize,
        ready: impl Fn(&Path) -> Result<()>,
    ) -> Result<Update> {
        let disk = self.scratch.path("disk");
        let fresh = Fresh::new(&self.scratch.path("disk.img"), "ext4", &disk)?;
        let (source, target) = (disk.join("old"), disk.join("new"));
        fs::create_dir(&source).with_context(|| format!("creating {}", source.display()))?;
        ready(&source)?;
        let command = self.command(line)?.with("SOURCE", &source).with("TARGET", &target);
        let mut done = Vec::new();
        // What ostree applied it has: another run would have nothing to do.
        let runs = if line == OSTREE_UPDATE { 1 } else { runs };
        for _ in 0..runs {
            if target.exists() {
                fs::remove_dir_all(&target)
                    .with_context(|| format!("emptying {}", target.display()))?;
            }
            fs::create_dir(&target).with_context(|| format!("creating {}", target.display()))?;
            fresh.cool()?;
            let before = self.host.sent("lo");
            let run = command.run(self.scratch.dir())?;
            done.push(Update { run, bytes: self.host.sent("lo") - before });
        }
        let first = done.first().context("nothing was run")?;
        let seconds = median(done.iter().map(|update| update.run.seconds))?;
        let peak = done.iter().map(|update| update.run.peak).max().unwrap_or_default();
        Ok(Update { run: Run { seconds, peak }, bytes: first.bytes })
    }
}
