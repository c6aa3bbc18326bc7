//! A room full of machines behind the cache that `docs/room-cache` describes: one copy comes over the uplink.

use std::{
    fs::{self, File},
    io::Read as _,
    os::fd::AsFd as _,
    thread,
};

use gse_controller::{
    fetch::{Client, Patience, RemoteImage, Retry},
    install::{FrameSources, Limits, LocalTree, Patch, Plan, Seed, make},
};
use gse_protocol::Index;
use gse_tests::{
    netns::Room,
    room_cache::{self, Cache},
    tree,
};

use crate::{
    lab::{Lab, Machine, upgrade},
    server::{Answer, Server},
};

const MACHINES: usize = 6;
/// Of the server's link, in megabits a second.
const LINK: u32 = 100;
/// What they fetch.
const NAMES: [&str; 2] = ["images/lab-2/system.tar.zst", "images/lab-2/from-1.patch"];
/// What a server replaces in place.
const OFFER: &str = "latest.toml";

#[test]
fn a_room_of_machines_behind_nginx_fetches_one_copy() {
    one_copy(Cache::Nginx);
}

#[test]
fn a_room_of_machines_behind_squid_fetches_one_copy() {
    one_copy(Cache::Squid);
}

fn one_copy(cache: Cache) {
    let (lab, machine) = upgrade();
    lab.publish("2");
    let new = lab.index("2");
    let files = NAMES.map(|name| fs::read(lab.path("dist").join(name)).unwrap());
    let served: Vec<(&str, &[u8])> =
        NAMES.into_iter().zip(files.iter().map(Vec::as_slice)).collect();
    let room = Room::new(MACHINES);
    // On the switch's own loopback: no machine can reach it but through the cache. It is slow, so machines ask for
    // what is on its way.
    room.switch.limit("lo", LINK);
    let origin = Origin::new(&room, &served);
    let work = tempfile::tempdir().unwrap();
    let _cache = cache.start(&room, work.path(), origin.server().address());

    // The first to come wants the end, and nothing else.
    let [image, _] = files.each_ref();
    let end = image.len() - 1000;
    let mut last = Vec::new();
    room.machines[0].run(|| {
        let part = client().open_range(&url(NAMES[0]), end as u64, None).unwrap();
        let mut stream = part.stream;
        assert!(!part.whole);
        stream.read_to_end(&mut last).unwrap();
    });
    assert_eq!(last, image[end..]);

    thread::scope(|scope| {
        for (number, host) in room.machines.iter().enumerate() {
            let (lab, machine, new) = (&lab, &machine, &new);
            scope.spawn(move || host.run(|| update(number, lab, machine, new)));
        }
    });

    for (name, bytes) in served {
        let requests = origin.server().requests();
        let asked = requests.iter().filter(|request| request.path == name);
        let sent = asked.map(|request| {
            let end = request.last.map_or(bytes.len(), |last| bytes.len().min(last + 1));
            end - request.from.unwrap_or(0)
        });
        let sent = sent.sum::<usize>();
        assert!(sent > 0 && sent <= bytes.len(), "{sent} of {} bytes of {name}", bytes.len());
    }

    // What tells machines that there is something new is never kept.
    for offered in ["2", "3"] {
        origin.server().put(OFFER, offered.as_bytes());
        let host = &room.machines[0];
        let told = host.run(|| client().get_small(&url(OFFER), 100).unwrap());
        assert_eq!(told, offered.as_bytes());
    }
}

/// A server on the loopback of a room's switch. It ends where it began: it is told so by a connection.
struct Origin<'r> {
    room: &'r Room,
    server: Option<Server>,
}

impl<'r> Origin<'r> {
    fn new(room: &'r Room, files: &[(&str, &[u8])]) -> Self {
        let server = room.switch.run(|| Server::new(files, |_| Answer::Right));
        Self { room, server: Some(server) }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }
}

impl Drop for Origin<'_> {
    fn drop(&mut self) {
        let server = self.server.take();
        self.room.switch.run(|| drop(server));
    }
}

/// The cache, as machines know it.
fn server() -> String {
    format!("http://{}:{}/", Room::SWITCH, room_cache::PORT)
}

fn url(name: &str) -> String {
    server() + name
}

fn client() -> Client {
    Client::new(None, Patience::default()).unwrap()
}

/// What a machine does: some are new, some have the old version, and some of those take no patches.
fn update(number: usize, lab: &Lab, machine: &Machine, new: &Index) {
    let (servers, client) = ([server()], client());
    let remote = |name: &str, size| {
        let retry = Retry::default();
        RemoteImage::new(client.clone(), &servers, name, size, retry, |switch| {
            panic!("{}", switch.error)
        })
    };
    let [image, patches] = NAMES;
    let root = machine.folder.path();
    let old = LocalTree::open(root, &root.join(".gse")).unwrap();
    let seeds = [Seed::new(&old, &machine.index)];
    let file = &new.patches[0];
    let (mut image, mut patches) = (remote(image, new.packed_size()), remote(patches, file.size()));
    let patch =
        number.is_multiple_of(3).then(|| Patch::open(file, new, &seeds[0], &mut patches).unwrap());
    let seeds = if number % 3 == 2 { &[] } else { &seeds[..] };
    let plan = Plan::new(new, seeds, patch.as_ref()).unwrap();
    let sources = FrameSources { patch: Some(&mut patches), image: Some(&mut image) };
    let target = tempfile::tempdir().unwrap();
    let directory = File::open(target.path()).unwrap();
    make(&plan, sources, directory.as_fd(), &|_, _| {}, &Limits::default()).unwrap();
    let made = tree::describe(target.path()).unwrap();
    let wanted = tree::describe(&lab.path("tree")).unwrap();
    assert_eq!(tree::differences(&wanted, &made), Vec::<String>::new());
}
