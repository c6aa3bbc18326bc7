#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use gse_protocol::config::{Machines, bundle::Files, machines::Identity};

use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@lab";

fn desired(files: &[(&str, &str)]) -> Desired {
    let file = |text: &str| File { mode: 0o644, bytes: text.as_bytes().to_vec() };
    let files: Files = files.iter().map(|(name, text)| ((*name).to_owned(), file(text))).collect();
    Desired::new(&files, &Machines::default(), &Identity::default()).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn openrc() -> Image {
    Image {
        passwd: "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\nnobody:x:99:99:::\n".to_owned(),
        group: "root:x:0:\nwheel:x:10:alice\n".to_owned(),
        init: Init::OpenRc {
            services: names(&["sshd", "ntpd", "cronie"]),
            runlevels: names(&["boot", "default"]),
        },
        zone: Zone::Known,
    }
}

fn systemd() -> Image {
    let unit = |name: &str| (name.to_owned(), format!("/usr/lib/systemd/system/{name}"));
    let units =
        ["ssh.service", "getty@.service", "multi-user.target", "quiet.service", "ssh.socket"]
            .map(unit);
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let texts = [
        text(
            "ssh.service",
            "[Unit]\nWantedBy=no\n[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\nAlso=ssh.socket ssh.service\n",
        ),
        text("getty@.service", "[Install]\nWantedBy = getty.target\n"),
        text("ssh.socket", "[Install]\nRequiredBy=sockets.target\n"),
        text("quiet.service", "[Service]\n"),
    ];
    Image { init: Init::Systemd { units: units.into(), texts: texts.into() }, ..openrc() }
}

/// The links, and what they say; those that are to go say nothing.
fn links(wishes: &Wishes) -> Vec<(&str, Option<&str>)> {
    let mut links: Vec<_> = wishes.things.iter().filter_map(of_link).collect();
    links.sort_unstable();
    links
}

fn of_link(wanted: &Wanted) -> Option<(&str, Option<&str>)> {
    match &wanted.thing {
        Thing::Link(target) => Some((&wanted.path, Some(target))),
        Thing::Nothing => Some((&wanted.path, None)),
        Thing::File(_) => None,
    }
}

fn thing<'w>(wishes: &'w Wishes, path: &str) -> &'w Thing {
    &wishes.things.iter().find(|wanted| wanted.path == path).unwrap().thing
}

#[test]
fn services_of_openrc_are_links_as_rc_update_makes_them() {
    let desired = desired(&[("runlevels", "sshd add default\nntpd del boot\n")]);
    let (wishes, notes) = resolve(&desired, &openrc()).unwrap();
    let expected = [
        ("etc/runlevels/boot/ntpd", None),
        ("etc/runlevels/default/sshd", Some("/etc/init.d/sshd")),
    ];
    assert_eq!(links(&wishes), expected);
    assert!(notes.is_empty());
}

#[test]
fn units_of_systemd_are_enabled_as_they_say() {
    let rules = "ssh add default\ngetty@tty9 add default\nquiet del multi-user\n";
    let (wishes, _) = resolve(&desired(&[("runlevels", rules)]), &systemd()).unwrap();
    let unit = "/usr/lib/systemd/system/";
    let expected = [
        (
            "etc/systemd/system/getty.target.wants/getty@tty9.service",
            Some(format!("{unit}getty@.service")),
        ),
        ("etc/systemd/system/multi-user.target.wants/quiet.service", None),
        (
            "etc/systemd/system/multi-user.target.wants/ssh.service",
            Some(format!("{unit}ssh.service")),
        ),
        (
            "etc/systemd/system/sockets.target.requires/ssh.socket",
            Some(format!("{unit}ssh.socket")),
        ),
        ("etc/systemd/system/sshd.service", Some(format!("{unit}ssh.service"))),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(path, target)| (*path, target.as_deref())).collect();
    assert_eq!(links(&wishes), expected);
}

#[test]
fn what_the_image_has_not_is_named_with_what_is_near() {
    for (file, content, image, expected) in [
        (
            "runlevels",
            "# x\nsshdd add default\n",
            openrc(),
            "runlevels:2: the image has no service \"sshdd\" (did you mean `sshd`?)",
        ),
        (
            "runlevels",
            "sshd add defalt\n",
            openrc(),
            "runlevels:1: the image has no runlevel \"defalt\" (did you mean `default`?)",
        ),
        (
            "runlevels",
            "shh add default\n",
            systemd(),
            "the image has no unit \"shh.service\" (did you mean `ssh.service`?)",
        ),
        (
            "runlevels",
            "ssh add multiuser\n",
            systemd(),
            "the image has no target \"multiuser.target\" (did you mean `multi-user.target`?)",
        ),
        (
            "runlevels",
            "quiet add default\n",
            systemd(),
            "runlevels:1: the unit quiet.service says nowhere",
        ),
        ("runlevels", "x add default\n", Image::default(), "the image has neither"),
        ("ssh/alcie.pub", KEY, openrc(), "the image has no user \"alcie\" (did you mean `alice`?)"),
        (
            "ssh/nobody.pub",
            KEY,
            openrc(),
            "the image has no home directory for the user \"nobody\"",
        ),
        (
            "timezone",
            "Europe/Berln\n",
            Image { zone: Zone::Missing { near: Some("Europe/Berlin".to_owned()) }, ..openrc() },
            "timezone: the image has no time zone \"Europe/Berln\" (did you mean `Europe/Berlin`?)",
        ),
    ] {
        let error = resolve(&desired(&[(file, content)]), &image).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n{expected}");
    }
}

#[test]
fn a_service_that_is_not_there_cannot_start() {
    let (wishes, notes) =
        resolve(&desired(&[("runlevels", "gone del default\n")]), &openrc()).unwrap();
    assert_eq!(wishes, Wishes::default());
    assert!(notes[0].contains("no service \"gone\""), "{notes:?}");
}

#[test]
fn owners_are_found_by_name_and_number() {
    for (owner, expected) in [
        ("alice", Some((1000, 100))),
        ("alice:wheel", Some((1000, 10))),
        ("1000", Some((1000, 100))),
        ("4711", Some((4711, 4711))),
        ("0:5", Some((0, 5))),
        ("root:whel", None),
        ("bob", None),
    ] {
        let owners = format!("/etc/x {owner} 0640\n");
        let found = resolve(&desired(&[("owners", &owners), ("files/etc/x", "")]), &openrc());
        let found = found.ok().map(|(wishes, _)| match thing(&wishes, "etc/x") {
            Thing::File(file) => (file.uid, file.gid),
            _ => unreachable!(),
        });
        assert_eq!(found, expected, "{owner}");
    }
}

#[test]
fn keys_are_the_users_own_and_nobody_elses() {
    let (wishes, _) =
        resolve(&desired(&[("ssh.pub", KEY), ("ssh/alice.pub", KEY)]), &openrc()).unwrap();
    let Thing::File(file) = thing(&wishes, "home/alice/.ssh/authorized_keys") else {
        unreachable!()
    };
    assert_eq!((file.file.mode, file.uid, file.gid), (0o600, 1000, 100));
    assert_eq!(wishes.directories[0].1, Directory { mode: 0o700, uid: 0, gid: 0 });
}

#[test]
fn scripts_run_where_the_init_looks_for_them() {
    let desired = desired(&[
        ("scripts/quota", "#!/bin/sh\nexit 0\n"),
        ("scripts/bye.stop", "#!/bin/sh\nexit 0\n"),
    ]);
    let (wishes, _) = resolve(&desired, &openrc()).unwrap();
    assert_eq!(
        wishes.things.iter().map(|wanted| &wanted.path).collect::<Vec<_>>(),
        ["etc/local.d/bye.stop", "etc/local.d/quota.start"]
    );
    let (wishes, _) = resolve(&desired, &systemd()).unwrap();
    let Thing::File(unit) = thing(&wishes, "etc/systemd/system/gse-quota-start.service") else {
        unreachable!()
    };
    assert!(
        String::from_utf8_lossy(&unit.file.bytes).contains("ExecStart=/etc/local.d/quota.start\n")
    );
    assert_eq!(links(&wishes).len(), 2);
}
