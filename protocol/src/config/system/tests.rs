#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@lab";

fn system(files: &[(&str, &str)]) -> Files {
    let file = |text: &str| File { mode: 0o644, bytes: text.as_bytes().to_vec() };
    files.iter().map(|(name, text)| ((*name).to_owned(), file(text))).collect()
}

fn machine() -> Identity {
    Identity { macs: vec!["52:54:00:0a:0b:0c".to_owned()], serial: Some("S 1".to_owned()) }
}

fn desired(files: &[(&str, &str)], machines: &str) -> Desired {
    Desired::new(&system(files), &Machines::parse(machines).unwrap(), &machine()).unwrap()
}

fn text<'d>(desired: &'d Desired, path: &str) -> &'d str {
    str::from_utf8(&desired.file(path).unwrap().file.bytes).unwrap()
}

fn paths(desired: &Desired) -> Vec<&str> {
    let mut paths: Vec<_> = desired.files.iter().map(|wanted| wanted.path.as_str()).collect();
    paths.sort_unstable();
    paths
}

/// The only mistake in a file.
fn mistake(name: &str, content: &str) -> String {
    let found = mistakes(&system(&[(name, content)]));
    match found.as_slice() {
        [] => "fine".to_owned(),
        [one] => one.to_string(),
        several => format!("{several:?}"),
    }
}

#[test]
fn files_go_where_their_names_say() {
    let desired = desired(
        &[
            ("hosts", "::1 me\n"),
            ("files/etc/motd", "hello\n"),
            ("sshd", "Port 22\n"),
            ("timezone", "# here\nEurope/Berlin\n"),
            ("keymaps", "# nothing but a comment\n"),
            ("ssh.pub", KEY),
            ("ssh/alice.pub", KEY),
            ("scripts/quota", "#!/bin/sh\nexit 0\n"),
            ("runlevels", "sshd add default\n"),
            ("owners", "/etc/motd games:100 0640\n/etc/ssh/sshd_config sshd\n"),
        ],
        "",
    );
    assert_eq!(paths(&desired), ["etc/hosts", "etc/motd", "etc/ssh/sshd_config", "etc/timezone"]);
    assert_eq!(text(&desired, "etc/timezone"), "Europe/Berlin\n");
    let motd = desired.file("etc/motd").unwrap();
    assert_eq!((motd.file.mode, motd.owner.user.as_str()), (0o640, "games"));
    let sshd = desired.file("etc/ssh/sshd_config").unwrap();
    assert_eq!((sshd.file.mode, &sshd.owner.group), (0o600, &None));
    assert_eq!(desired.keys.iter().map(|(user, _)| user).collect::<Vec<_>>(), ["root", "alice"]);
    assert_eq!(desired.scripts.len(), 1);
    assert_eq!((desired.runlevels[0].line, desired.runlevels[0].add), (1, true));
}

#[test]
fn a_hostname_is_made_for_each_machine() {
    let files = [("hostname", "# by address\nlab-{mac}\n")];
    assert_eq!(text(&desired(&files, ""), "etc/hostname"), "lab-0a0b0c\n");
    let own = "[[machine]]\nmatch.serial = \"S*\"\nhostname = \"desk-{serial}\"\n";
    assert_eq!(text(&desired(&files, own), "etc/hostname"), "desk-S1\n");
    let room = "[[machine]]\nmatch.mac = \"52:*\"\nroom = \"b12\"\n[[machine]]\nhostname = \"{room}-{mac}\"\n";
    assert_eq!(text(&desired(&files, room), "etc/hostname"), "b12-0a0b0c\n");
    assert!(desired(&[("hostname", "# the image's\n")], "").files.is_empty());
}

#[test]
fn a_room_has_files_of_its_own() {
    let files = [
        ("hosts", "::1 all\n"),
        ("keymaps", "keymap=\"us\"\n"),
        ("rooms/b12/hosts", "::1 b12\n"),
        ("rooms/b12/files/etc/motd", "b12\n"),
        ("rooms/b1/hosts", "::1 b1\n"),
    ];
    let by_name = "[[machine]]\nmatch.name = \"lab-0*\"\nroom = \"b12\"\n\
                   [[machine]]\nhostname = \"lab-{mac}\"\n";
    let in_room = desired(&files, by_name);
    assert_eq!(text(&in_room, "etc/hosts"), "::1 b12\n");
    assert_eq!(text(&in_room, "etc/motd"), "b12\n");
    assert_eq!(text(&in_room, "etc/conf.d/keymaps"), "keymap=\"us\"\n");
    let elsewhere = desired(&files, "[[machine]]\nmatch.name = \"desk*\"\nroom = \"b12\"\n");
    assert_eq!(text(&elsewhere, "etc/hosts"), "::1 all\n");
    assert!(elsewhere.file("etc/motd").is_none());
}

#[test]
fn files_for_a_room_without_machines_are_told() {
    let machines = Machines::parse("[[machine]]\nroom = \"b12\"\n").unwrap();
    let system =
        system(&[("rooms/b12/hosts", "::1 x"), ("rooms/b21/hosts", "::1 x"), ("hosts", "")]);
    let found = empty_rooms(&system, &machines);
    assert_eq!(found.len(), 1);
    let expected = "controller/system/rooms/b21/hosts: no entry of controller/machines.toml has \
                    room = \"b21\" (did you mean `rooms/b12`?)";
    assert_eq!(found[0].to_string(), expected);
}

#[test]
fn links_have_the_syntax_that_administrators_know() {
    let desired = desired(
        &[(
            "links",
            "symlink f=y ../run/resolv.conf /etc/resolv.conf\nbindmount f=n /user-data/home /home\n\
             overlay /opt /user-data/opt/upper /user-data/opt/work\ntmpfs /var/cache size=64m,mode=1777 keep\n",
        )],
        "",
    );
    let Links { symlinks, binds, overlays, tmpfs } = desired.links.clone();
    assert_eq!((symlinks[0].link.as_str(), symlinks[0].force), ("etc/resolv.conf", true));
    assert_eq!((binds[0].from.as_str(), binds[0].make), ("/user-data/home", false));
    assert_eq!(overlays[0].work, "/user-data/opt/work");
    assert_eq!((tmpfs[0].size.map(|s| s.0), tmpfs[0].mode.0), (Some(64 << 20), 0o1777));
    assert!(tmpfs[0].keep);
    let mounts = crate::config::Mounts::default().with(&desired.links);
    assert!(mounts.is_userdata(&mounts.source(&mounts.bind[0])));
    assert!(!mounts.is_userdata("/user-data2"));
}

#[test]
fn mistakes_are_told_with_line_and_what_was_meant() {
    for (name, content, expected) in [
        ("hostnam", "x", ": nothing is known by this name"),
        ("hostnam", "x", "(did you mean `controller/system/hostname`?)"),
        ("files/", "x", ": nothing is known"),
        ("ssh/a/b.pub", KEY, ": nothing is known"),
        ("rooms/b12", "x", ": nothing is known"),
        ("rooms/b12/hosst", "x", "(did you mean `controller/system/rooms/b12/hosts`?)"),
        ("rooms/b12/hosts", "x y\n", "rooms/b12/hosts:1: \"x\" is no address"),
        (
            "runlevels",
            "# x\n\nsshd ad default\n",
            "runlevels:3: \"ad\" is neither add nor del (did you mean `add`?)",
        ),
        ("runlevels", "sshd add\n", "runlevels:1: a line is SERVICE add RUNLEVEL"),
        ("runlevels", "../x add default\n", "\"../x\" is no name"),
        ("runlevels", "x del ..\n", "\"..\" is no name"),
        ("hostname", "lab {mac}\n", "may only have letters"),
        ("hostname", "a\nb\n", "hostname:2: only the first line counts"),
        ("hosts", "127.0.0.1\n", "hosts:1: 127.0.0.1 has no name"),
        ("hosts", "127.0.0.1 # x\n", "has no name"),
        ("hosts", "fe80::1%lo0 x\n", "fine"),
        ("fstab", "/dev/sda1 /x\n", "fstab:1: a line has what"),
        ("fstab", "/dev/sda1 x auto\n", "a line has what"),
        ("fstab", "/dev/sda1 x auto ro\n", "\"x\" is neither an absolute path nor none"),
        ("fstab", "/dev/sda1 /x auto ro 0 x\n", "\"x\" is not one of the two numbers"),
        ("fstab", "/dev/sda1 /x auto ro 0 0 0\n", "\"0\" is not one of the two numbers"),
        ("fstab", "/dev/sda1 none swap sw 0 0 # x\n", "fine"),
        ("locale.gen", "de_DE.UTF-8\n", "locale.gen:1: a line has a locale"),
        ("locale.gen", "de_DE.UTF-8 UTF8\n", "(did you mean `de_DE.UTF-8 UTF-8`?)"),
        ("locale.gen", "de/DE UTF-8\n", "is no name of a locale"),
        ("locale.gen", "de_DE@euro ISO-8859-15 # x\nC.UTF-8 UTF-8\n", "fine"),
        ("timezone", "Europe/../x\n", "is no name of a time zone"),
        ("timezone", "Etc/GMT+1\n", "fine"),
        (
            "consolefont",
            "consolfont=\"x\"\n",
            "consolefont:1: there is no setting consolfont (did you mean `consolefont`?)",
        ),
        ("keymaps", "keymap=\"us\nwindowkeys='YES'\n", "keymaps:1: the \" of keymap is not closed"),
        ("keymaps", "keymap us\n", "is no line like NAME=\"value\""),
        ("grub", "TIMEOUT=1\n", "GRUB reads no TIMEOUT"),
        ("grub", "export GRUB_COLOR=\"x\"\n", "fine"),
        ("sshd", "Port\n", "sshd:1: Port has no value"),
        ("sshd", "Port=22\nMatch User x\n  X11Forwarding no\n", "fine"),
        ("ssh.pub", "ssh-ed25519 AAAA me\n", "ssh.pub:1: this is no public key"),
        ("ssh.pub", &KEY.replace("ssh-ed", "ssh-rs"), "this is no public key"),
        ("ssh.pub", &format!("# me\nno-pty {KEY}\n"), "fine"),
        (
            "links",
            "simlink f=y a /b\n",
            "links:1: there is no kind of link named \"simlink\" (did you mean `symlink`?)",
        ),
        ("links", "symlink a /b\n", "a line is symlink f=y TARGET LINK"),
        ("links", "symlink f=x a /b\n", "\"f=x\" is neither f=y nor f=n"),
        ("links", "symlink f=y a b\n", "\"b\" is no absolute path"),
        ("links", "bindmount f=y /a /b/../c\n", "is no absolute path"),
        ("links", "tmpfs /x siz=1\n", "tmpfs has no option siz (did you mean `size`?)"),
        ("links", "tmpfs /x size=1X\n", "is no size like"),
        ("links", "tmpfs /x mode=9\n", "is no mode like"),
        (
            "owners",
            "/etc/shadow root:root 0640\n",
            "owners:1: /etc/shadow is no file of this configuration",
        ),
        ("owners", "/etc/shadow root:root 9\n", "\"9\" is no mode like 0644"),
        ("owners", "/etc/shadow root: 0640\n", "\"root:\" is no owner"),
        ("files/etc/x", "a\n#CF_MASK=ON\n", "a mask is for a machine to have"),
        ("files/etc/.CD_MASK", "", "a mask is for a machine to have"),
        ("files/etc/x", "# #CF_MASK=ON\n", "fine"),
    ] {
        let found = mistake(name, content);
        assert!(found.contains(expected), "{name} {content:?}\n{found}\n{expected}");
    }
}

#[test]
fn all_lines_that_are_wrong_are_told() {
    let found = mistakes(&system(&[("runlevels", "a x b\na add b\nc y d\n")]));
    assert_eq!(found.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn owners_name_files_of_the_configuration() {
    let files = system(&[("owners", "/etc/mtd root\n"), ("files/etc/motd", "x")]);
    let found = mistakes(&files);
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().ends_with("(did you mean `/etc/motd`?)"), "{}", found[0]);
}
