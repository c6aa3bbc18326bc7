//! A room of thirty machines that install a small system at once from one server behind a slow link, with and without
//! a cache in the room.
//!
//! Each machine is a network namespace that writes into memory, so it is the server, the link and the cache that are
//! measured, and the processors that all thirty share.

use std::{fs, net::Ipv4Addr, thread, time::Instant};

use anyhow::{Context as _, Result, bail};
use gse_qemu::{fixtures, lab::program, process};
use gse_tests::{
    netns::{Host, Room},
    room_cache::{Cache, PORT},
};

use crate::{
    measure::{Command, say},
    scratch::Scratch,
    table::{Quantity, Row, Section, Target},
};

const MACHINES: usize = 30;
/// Of the server's link, in megabits a second.
const LINK: u32 = 200;

const INSTALL: &str =
    "mount -t tmpfs tmpfs \"$TARGET\"; \"$UPDATE\" \"$URL\" \"$KEY.pub\" \"$TARGET\" >/dev/null";
const TREE: &str =
    "mkdir \"$TREE\"; cp -a \"$FROM/usr/bin\" \"$FROM/usr/sbin\" \"$FROM/etc\" \"$TREE\"";

/// The bytes of a cache may be once what a machine fetches, and what each of them asks for without it: 1/25.
const SENT: f64 = 0.04;

pub(crate) fn measure(scratch: &Scratch) -> Result<Section> {
    say("a room: what is installed");
    let (tree, key, dist) = (scratch.path("tree"), scratch.path("key"), scratch.path("dist.d"));
    let make = Command::new(TREE).with("TREE", &tree).with("FROM", fixtures::tree()?);
    make.run(scratch.dir())?;
    let gse = program("gse")?;
    let mut keygen = process::command(&gse);
    keygen.arg("--keygen").arg(&key);
    process::output(keygen)?;
    let mut archive = process::command(&gse);
    archive.arg("--archive").arg(&tree).args(["--version=1", "--name=room"]);
    archive.arg("--dist").arg(&dist).arg("--key").arg(&key);
    process::output(archive)?;

    let room = Room::new(MACHINES);
    room.server.limit("uplink", LINK);
    let mut serve = room.server.command(&gse);
    serve.arg(format!("--serve=0.0.0.0:{PORT}")).arg("--dist").arg(&dist);
    let _server = process::spawn(serve)?;
    say("a room: without a cache");
    let without = all(scratch, &room, Room::SERVER)?;
    say("a room: with a cache");
    let work = scratch.path("nginx");
    fs::create_dir(&work).with_context(|| format!("creating {}", work.display()))?;
    let _nginx = Cache::Nginx.start(&room, &work, (Room::SERVER, PORT).into());
    let with = all(scratch, &room, Room::SWITCH)?;
    let what = |what| format!("{what}, {MACHINES} machines, {LINK} Mbit/s, nginx in the room");
    let seconds = Row::new(
        what("until the last is done"),
        Quantity::Seconds(with.seconds),
        Target::AtMost(1.0),
    );
    let bytes =
        Row::new(what("sent by the server"), Quantity::Bytes(with.bytes), Target::AtMost(SENT));
    let rows = vec![
        seconds.beside("without it", Quantity::Seconds(without.seconds)),
        bytes.beside("without it", Quantity::Bytes(without.bytes)),
    ];
    let commands = [("what is installed", TREE), ("each machine", INSTALL)];
    let commands = commands.map(|(name, line)| (name.to_owned(), line.to_owned())).into();
    Ok(Section { name: "room", rows, commands })
}

struct Taken {
    seconds: f64,
    bytes: u64,
}

/// All machines at once; it is an error if one fails.
fn all(scratch: &Scratch, room: &Room, server: Ipv4Addr) -> Result<Taken> {
    let (before, start) = (room.server.sent("uplink"), Instant::now());
    let one = |number: usize, enter: String| -> Result<()> {
        let work = scratch.path(&format!("machine-{number}"));
        let target = work.join("target");
        fs::create_dir_all(&target).with_context(|| format!("creating {}", target.display()))?;
        // What it mounts goes with its processes.
        let command = Command::new(INSTALL)
            .within(&["nsenter", &enter, "--", "unshare", "--mount", "--"])
            .with("TARGET", &target)
            .with("UPDATE", program("gse-update")?)
            .with("KEY", scratch.path("key"))
            .with("URL", format!("http://{server}:{PORT}/"));
        command.run(&work).map(drop).with_context(|| format!("machine {number}"))
    };
    let failed: Vec<anyhow::Error> = thread::scope(|scope| {
        let one = &one;
        let start = |(number, machine): (usize, &Host)| {
            let enter = machine.enter();
            scope.spawn(move || one(number, enter))
        };
        let running: Vec<_> = room.machines.iter().enumerate().map(start).collect();
        let ended = running.into_iter().map(|machine| match machine.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.filter_map(Result::err).collect()
    });
    if let Some(first) = failed.first() {
        bail!("{} of {MACHINES} machines failed; the first: {first:#}", failed.len());
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Taken { seconds, bytes: room.server.sent("uplink") - before })
}
