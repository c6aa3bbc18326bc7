//! The TOML files: typos are found and told so that they can be mended, and no text breaks a parser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, path::Path};

use gse_protocol::config::{
    Boot, Drives, Error, Machines, Mounts, Network, Sources,
    bundle::{File, Files},
    drives::{Extent, Size},
    machines::{Identity, wild},
    network::Cidr,
    system::{self, Desired, links::Links},
};
use proptest::prelude::*;

const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// What the parser of that file says about `text`.
fn mistake(file: &str, text: &str) -> String {
    let result: Result<(), Error> = match file {
        "sources" => Sources::parse(text).map(drop),
        "boot" => Boot::parse(text).map(drop),
        "network" => Network::parse(text).map(drop),
        "drives" => Drives::parse(text).map(drop),
        "mounts" => Mounts::parse(text).map(drop),
        _ => Machines::parse(text).map(drop),
    };
    result.map_or_else(|e| e.to_string(), |()| "fine".to_owned())
}

#[test]
fn when_to_update_and_by_which_proxy_is_checked() {
    for (file, text, expected) in [
        ("boot", "[update]\nwindow = \"22:00-6:00\"\n", "controller/boot.toml:2: update.window"),
        ("boot", "[update]\nspread = 21601\n", "controller/boot.toml:2: update.spread is at most"),
        ("boot", "[rescue]\nreboot_after = 0\n", "controller/boot.toml:2: rescue.reboot_after must"),
        ("boot", "[update]\nspread = 600\nwindow = \"22:00-06:00\"\n", "fine"),
        ("sources", "servers = []\nkeys = []\nproxy = \"http://p:3128\"\n", "fine"),
        (
            "sources",
            "servers = []\nkeys = []\nproxy = \"p:3128\"\n",
            "sources.toml:3: proxy \"p:3128\"",
        ),
        ("sources", "servers = []\nkeys = []\nproxy = \"https://p\"\n", "sources.toml:3: proxy"),
        ("sources", "servers = []\nkeys = []\nproxy = \"http://u:p@p\"\n", "sources.toml:3: proxy"),
    ] {
        let said = mistake(file, text);
        assert!(said.starts_with(expected), "{text}: {said}");
    }
}

#[test]
fn typos_name_file_line_and_nearest_key() {
    for (file, text, place, meant) in [
        ("sources", "servrs = []\nkeys = []\n", "sources.toml:1: ", "servers"),
        ("sources", "servers = []\nkey = []\n", "sources.toml:2: ", "keys"),
        ("sources", "servers = []\nkeys = []\n\ntls-roots = \"\"", "sources.toml:4: ", "tls_roots"),
        ("boot", "[updat]\n", "controller/boot.toml:1: ", "update"),
        ("boot", "# x\n[update]\npolcy = \"ask\"\n", "controller/boot.toml:3: ", "policy"),
        ("boot", "[update]\npolicy = \"aks\"\n", "controller/boot.toml:2: ", "ask"),
        ("boot", "rescue.pasword = \"x\"\n", "controller/boot.toml:1: ", "password"),
        ("boot", "[health]\nscript_limt = 5\n", "controller/boot.toml:2: ", "script_limit"),
        ("boot", "[update]\nmode = \"inplace\"\n", "controller/boot.toml:2: ", "in-place"),
        ("boot", "[update]\nwindows = \"\"\n", "controller/boot.toml:2: ", "window"),
        ("boot", "[update]\nwhen_busy = \"bot\"\n", "controller/boot.toml:2: ", "boot"),
        ("boot", "[update]\n\nbackgrund = true\n", "controller/boot.toml:3: ", "background"),
        ("sources", "servers = []\nkeys = []\nproxi = \"\"", "sources.toml:3: ", "proxy"),
        ("boot", "[health]\nwatchdog = \"alwys\"\n", "controller/boot.toml:2: ", "always"),
        ("network", "[[interfaces]]\n", "controller/network.toml:1: ", "interface"),
        ("network", "[[interface]]\nmatch.nam = \"x\"\n", "controller/network.toml:2: ", "name"),
        (
            "network",
            "[[interface]]\nmatch.name = \"x\"\ngatway = \"10.0.0.1\"\n",
            "controller/network.toml:3: ",
            "gateway",
        ),
        (
            "network",
            "[[interface]]\nmatch.name = \"x\"\nmethod = \"statik\"\n",
            "controller/network.toml:3: ",
            "static",
        ),
        ("drives", "[[disks]]\n", "controller/drives.toml:1: ", "disk"),
        (
            "drives",
            "[[disk]]\npartition = []\nmatch.modell = \"x\"\n",
            "controller/drives.toml:3: ",
            "model",
        ),
        (
            "drives",
            "[[disk]]\n[[disk.partition]]\nlabel = \"SYSF\"\n",
            "controller/drives.toml:3: ",
            "SYSFS",
        ),
        (
            "drives",
            "[[disk]]\n[[disk.partition]]\nlabel = \"SYSFS\"\nsize = \"1G\"\nfilesystem = \"btfs\"\n",
            "controller/drives.toml:5: ",
            "btrfs",
        ),
        ("mounts", "user_data = \"/u\"\n", "controller/mounts.toml:1: ", "userdata"),
        ("mounts", "[[tmpfs]]\npath = \"/a\"\nkep = true\n", "controller/mounts.toml:3: ", "keep"),
        (
            "machines",
            "[[machine]]\nhost_name = \"x\"\n",
            "controller/machines.toml:2: ",
            "hostname",
        ),
        (
            "machines",
            "[[machine]]\nmatch.sreial = \"x\"\n",
            "controller/machines.toml:2: ",
            "serial",
        ),
    ] {
        let found = mistake(file, text);
        assert!(found.starts_with(place), "{found}");
        assert!(found.ends_with(&format!("(did you mean `{meant}`?)")), "{found}");
    }
}

#[test]
fn what_is_like_no_key_gets_no_suggestion() {
    let found = mistake("boot", "frobnicate = 1\n");
    assert!(found.starts_with("controller/boot.toml:1: unknown field `frobnicate`"), "{found}");
    assert!(!found.contains("did you mean"), "{found}");
}

#[test]
fn values_that_are_wrong_are_told_with_their_line() {
    for (file, text, place) in [
        (
            "sources",
            "# ftp://x\nservers = [\n  \"http://a/\",\n  \"ftp://x\",\n]\nkeys = []\n",
            "sources.toml:4: ",
        ),
        ("sources", "servers = []\nkeys = [\n  \"RWbad\",\n]\n", "sources.toml:3: "),
        ("boot", "[init]\npath = \"init\"\n", "controller/boot.toml:2: "),
        ("boot", "[health]\ntries = 0\n", "controller/boot.toml:2: "),
        (
            "mounts",
            "[[tmpfs]]\npath = \"/a\"\n[[tmpfs]]\npath = \"b\"\n",
            "controller/mounts.toml:4: ",
        ),
        ("machines", "[[machine]]\nhostname = \"{mca}\"\n", "controller/machines.toml:2: "),
    ] {
        let found = mistake(file, text);
        assert!(found.starts_with(place), "{found}");
    }
}

#[test]
fn values_that_could_only_fail_on_the_machine_are_refused() {
    let key = |rest: &str| format!("servers = []\nkeys = [\"{KEY}\"]\n{rest}");
    let server = |url: &str| format!("servers = ['{url}']\nkeys = []\n");
    let partition = |rest: &str| {
        format!("[[disk]]\n[[disk.partition]]\nlabel = \"SYSFS\"\nfilesystem = \"btrfs\"\n{rest}\n")
    };
    let two = |size: &str, label: &str| {
        let first = partition(&format!("size = \"{size}\""));
        format!(
            "{first}[[disk.partition]]\nlabel = \"{label}\"\nfilesystem = \"ext4\"\nsize = \"all\"\n"
        )
    };
    let interface = |rest: &str| format!("[[interface]]\nmatch.name = \"e*\"\n{rest}\n");
    let tmpfs = |path: &str| format!("[[tmpfs]]\npath = \"{path}\"\n");
    for (file, text, sentence) in [
        ("sources", key("tls_roots = \"tls/roots.pem\""), "fine"),
        ("sources", key("tls_roots = \"../roots.pem\""), "is no path in config.d"),
        ("sources", key("tls_roots = \"/etc/roots.pem\""), "is no path in config.d"),
        (
            "sources",
            "servers = []\nkeys = [\"RW\"]\n".to_owned(),
            "this is not a minisign public key",
        ),
        ("sources", server("https://gse.example:8443/lab"), "fine"),
        ("sources", server("ftp://gse.example/"), "is no URL like"),
        ("sources", server("gse.example"), "is no URL like"),
        ("sources", server("http://"), "is no URL like"),
        ("sources", server("http://:80/"), "is no URL like"),
        ("sources", server("http://user@gse.example/"), "is no URL like"),
        ("sources", server("http://gse.example/?x"), "is no URL like"),
        ("sources", server("http://gse example/"), "is no URL like"),
        ("boot", "[init]\npath = \"sbin/init\"\n".to_owned(), "init.path must start with /"),
        ("boot", "[rescue]\npassword = \"secret\"\n".to_owned(), "is not a hash"),
        ("boot", "[rescue]\npassword = \"$6$salt$hash\"\n".to_owned(), "fine"),
        ("network", interface(""), "fine"),
        ("network", interface("method = \"static\"\naddress = \"10.0.0.5/24\""), "fine"),
        ("network", interface("method = \"static\""), "static needs an address"),
        ("network", interface("address = \"10.0.0.5/24\""), "static needs an address"),
        (
            "network",
            interface("method = \"static\"\naddress = \"10.0.0.5/33\""),
            "is no address like",
        ),
        ("network", "[[interface]]\nmatch = {}\n".to_owned(), "matches nothing"),
        ("drives", partition("size = \"4G\""), "fine"),
        ("drives", partition("size = \"0\""), "SYSFS has size 0"),
        ("drives", partition("size = \"4 gigabytes\""), "is no size like 512M or 20G"),
        ("drives", partition("size = 4"), "controller/drives.toml:5: "),
        ("drives", two("4G", "BACKUPFS"), "fine"),
        ("drives", two("4G", "SYSFS"), "SYSFS is there twice"),
        ("drives", two("all", "BACKUPFS"), "only one partition of a disk can have size"),
        ("drives", partition("size = \"all\"\nsubvolumes = [\"@home\", \"@srv\"]"), "fine"),
        (
            "drives",
            partition("size = \"all\"\nsubvolumes = [\"@home\", \"@home\"]"),
            "is there twice",
        ),
        ("drives", partition("size = \"all\"\nsubvolumes = [\"@\"]"), "is no name for a subvolume"),
        (
            "drives",
            partition("size = \"all\"\nsubvolumes = [\"..\"]"),
            "is no name for a subvolume",
        ),
        (
            "drives",
            partition("size = \"all\"\nsubvolumes = [\"a/b\"]"),
            "is no name for a subvolume",
        ),
        (
            "drives",
            partition("size = \"all\"\nsubvolumes = [\"a\\u0001\"]"),
            "is no name for a subvolume",
        ),
        (
            "drives",
            partition("size = \"all\"\nsubvolumes = [\"a\"]").replace("btrfs", "xfs"),
            "is not btrfs",
        ),
        ("mounts", tmpfs("/var/tmp"), "fine"),
        ("mounts", tmpfs("var"), "is no absolute path"),
        ("mounts", tmpfs("/"), "is no absolute path"),
        ("mounts", tmpfs("/a/"), "is no absolute path"),
        ("mounts", tmpfs("/a/../b"), "is no absolute path"),
        ("mounts", tmpfs("/a\\u0000"), "is no absolute path"),
        ("mounts", tmpfs("/a\"\nmode = \"0888"), "is no mode like"),
        ("mounts", tmpfs("/a\"\nmode = \"17777"), "is no mode like"),
        (
            "mounts",
            "[[bind]]\nfrom = \"../x\"\nto = \"/x\"\n".to_owned(),
            "is neither a path below USERDATAFS nor an absolute one",
        ),
        ("mounts", "[[bind]]\nfrom = \"/x\"\nto = \"/x\"\n".to_owned(), "fine"),
        (
            "mounts",
            "[[overlay]]\nlower = \"/x\"\nupper = \"u\"\nwork = \"/w\"\n".to_owned(),
            "is no absolute path",
        ),
        ("mounts", "[[bind]]\nfrom = \"x\"\nto = \"x\"\n".to_owned(), "is no absolute path"),
        ("mounts", "userdata = \"u\"\n".to_owned(), "is no absolute path"),
        ("machines", "[[machine]]\nhostname = \"lab-{mac}\"\n".to_owned(), "fine"),
        (
            "machines",
            "[[machine]]\nhostname = \"lab-{seriall}\"\n".to_owned(),
            "may only have letters",
        ),
        ("machines", "[[machine]]\nroom = \"a/b\"\n".to_owned(), "is no name of a folder"),
        (
            "machines",
            "[[machine]]\nmatch.name = \"x*\"\nhostname = \"x\"\n".to_owned(),
            "cannot give a name",
        ),
        ("machines", "[[machine]]\nhostname = \"my lab\"\n".to_owned(), "may only have letters"),
        ("machines", "[[machine]]\nhostname = \"\"\n".to_owned(), "may only have letters"),
    ] {
        let found = mistake(file, &text);
        assert!(found.contains(sentence), "{text}\n{found}");
    }
}

#[test]
fn sizes_are_read_as_people_write_them() {
    for (text, bytes) in [
        ("512", Some(512)),
        ("1K", Some(1 << 10)),
        ("512M", Some(512 << 20)),
        ("20G", Some(20 << 30)),
        ("20 G", Some(20 << 30)),
        ("20GiB", Some(20 << 30)),
        ("2T", Some(2 << 40)),
        ("0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("16777216T", None),
        ("16777215T", Some(16_777_215 << 40)),
        ("", None),
        ("G", None),
        ("iB", None),
        ("512iB", None),
        ("1GiBiB", None),
        ("1GG", None),
        ("-1G", None),
        ("1.5G", None),
        ("20g", None),
        ("all", None),
    ] {
        assert_eq!(text.parse::<Size>().ok().map(|s| s.0), bytes, "{text:?}");
    }
    assert_eq!(Extent::try_from("all".to_owned()), Ok(Extent::All));
    assert_eq!(Extent::try_from("1K".to_owned()), Ok(Extent::Exactly(Size(1024))));
}

#[test]
fn addresses_with_a_prefix_are_read() {
    for (text, good) in [
        ("10.0.0.5/24", true),
        ("10.0.0.5/0", true),
        ("10.0.0.5/32", true),
        ("10.0.0.5/33", false),
        ("10.0.0.5/256", false),
        ("10.0.0.5/-1", false),
        ("10.0.0.5/", false),
        ("10.0.0.5", false),
        ("10.0.0/24", false),
        ("10.0.0.256/24", false),
        ("10.0.0.05/24", false),
        ("10.0.0.5/24/1", false),
        ("::1/64", false),
        (" 10.0.0.5/24", false),
    ] {
        assert_eq!(text.parse::<Cidr>().is_ok(), good, "{text:?}");
    }
}

#[test]
fn wild_patterns_match_as_in_a_shell() {
    for (pattern, text, fits) in [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("*", "anything", true),
        ("?", "", false),
        ("?", "é", true),
        ("eth*", "eth0", true),
        ("eth*", "et", false),
        ("*0", "eth0", true),
        ("*0", "eth01", false),
        ("e*h*0", "eth10", true),
        ("a*b*c", "abcbc", true),
        ("a*b*c", "abcb", false),
        ("**a**", "bab", true),
        ("ab", "aB", false),
        ("[a]", "a", false),
    ] {
        assert_eq!(wild(pattern, text), fits, "{pattern:?} {text:?}");
    }
}

#[test]
fn a_pattern_of_many_stars_is_soon_answered() {
    // Tried with each star taking each length, this would outlast the machine.
    assert!(!wild(&"*a".repeat(200), &"a".repeat(199)));
    assert!(!wild(&("*a".repeat(200) + "b"), &"a".repeat(5000)));
}

#[test]
fn hardware_addresses_match_however_they_are_written() {
    let text = "[[machine]]\nmatch.mac = \"52:54:00:AB:*\"\nroom = \"b12\"\n";
    let machines = Machines::parse(text).unwrap();
    let identity = Identity { macs: vec!["52:54:00:ab:cd:ef".to_owned()], serial: None };
    assert_eq!(machines.room(&identity).as_deref(), Some("b12"));
    let network = Network::parse("[[interface]]\nmatch.mac = \"52:54:00:AB:*\"\n").unwrap();
    assert_eq!(network.interface[0].matches.mac.as_deref(), Some("52:54:00:ab:*"));
}

#[test]
fn names_of_machines_are_valid_host_names() {
    let macs = vec!["52:54:00:ab:cd:ef".to_owned()];
    for (pattern, serial, expected) in [
        ("lab-{mac}", None, Some("lab-abcdef")),
        ("lab-{serial}", Some("S/N 12_34"), Some("lab-SN1234")),
        ("lab-{serial}", None, Some("lab")),
        ("{serial}", None, None),
        ("{serial}", Some("--"), None),
        ("-a-.-b-", None, Some("a.b")),
        ("a..b.", None, Some("a.b")),
    ] {
        let text = format!("[[machine]]\nhostname = \"{pattern}\"\n");
        let identity = Identity { macs: macs.clone(), serial: serial.map(str::to_owned) };
        let found = Machines::parse(&text).unwrap().hostname(&identity);
        assert_eq!(found.as_deref(), expected, "{pattern} {serial:?}");
    }
}

/// The configuration that comes with GSE, read from its directory.
fn shipped() -> Files {
    fn read(folder: &Path, name: &str, out: &mut Files) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{name}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                read(&path, &format!("{name}/"), out);
            } else {
                out.insert(name, file(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    let mut files = Files::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.d/controller/system"),
        "",
        &mut files,
    );
    files
}

#[test]
fn every_kind_of_file_is_shown_and_means_something_when_it_is_switched_on() {
    let shipped = shipped();
    assert_eq!(system::mistakes(&shipped), []);
    let machine = Identity { macs: vec!["52:54:00:ab:cd:ef".to_owned()], serial: None };
    let desired = Desired::new(&shipped, &Machines::default(), &machine).unwrap();
    assert_eq!(desired.files.len(), 1);
    assert!(desired.file("etc/hosts").is_some());
    for name in SYSTEM {
        assert!(shipped.contains_key(name), "{name}");
    }
    // A line that begins with `#` alone is a setting.
    let on = |(name, shipped): (&String, &File)| {
        let text = String::from_utf8(shipped.bytes.clone()).unwrap();
        let line = |line: &str| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with([' ', '!']) && !setting.is_empty() => {
                setting.to_owned()
            }
            _ => line.to_owned(),
        };
        let text = text.lines().map(line).collect::<Vec<_>>().join("\n");
        (name.clone(), file(&text.replace("AAAAC3Nza…", SSH_KEY)))
    };
    let mut on: Files = shipped.iter().map(on).collect();
    on.insert("files/etc/sudoers.d/lab".to_owned(), file("x"));
    assert_eq!(system::mistakes(&on), []);
    let desired = Desired::new(&on, &Machines::default(), &machine).unwrap();
    assert_eq!(desired.files.len(), 11, "{:?}", desired.files);
    assert!(!desired.runlevels.is_empty() && !desired.keys.is_empty());
    assert!(!desired.scripts.is_empty() && desired.timezone.is_some());
    let Links { symlinks, binds, overlays, tmpfs } = desired.links;
    assert_eq!([symlinks.len(), binds.len(), overlays.len(), tmpfs.len()], [1; 4]);
}

const SSH_KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

fn parse_all(text: &str) {
    for file in ["sources", "boot", "network", "drives", "mounts", "machines"] {
        mistake(file, text);
    }
    let system: Files = SYSTEM.map(|name| (name.to_owned(), file(text))).into();
    let found = system::mistakes(&system);
    let lines = 0..=text.lines().count();
    assert!(found.iter().all(|e| lines.contains(&e.line)), "{found:?}");
    // What has no mistake can be applied.
    if found.is_empty() {
        Desired::new(&system, &Machines::default(), &Identity::default()).unwrap();
    }
}

const SYSTEM: [&str; 15] = [
    "hostname",
    "hosts",
    "fstab",
    "net",
    "locale.gen",
    "timezone",
    "consolefont",
    "keymaps",
    "grub",
    "sshd",
    "ssh.pub",
    "runlevels",
    "links",
    "owners",
    "scripts/example",
];

fn file(text: &str) -> File {
    File { mode: 0o644, bytes: text.as_bytes().to_vec() }
}

/// A shell's `*` and `?`, in the way that is plainly right and far too slow.
fn wild_by_definition(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['*', rest @ ..], _) => {
            (0..=text.len()).any(|taken| wild_by_definition(rest, &text[taken..]))
        }
        (['?', pattern @ ..], [_, text @ ..]) => wild_by_definition(pattern, text),
        ([p, pattern @ ..], [t, text @ ..]) => p == t && wild_by_definition(pattern, text),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,200}", lines in "([a-z_.]{1,12} ?= ?[\\[\\]\"{}a-z0-9,]{0,20}\n|\\[\\[?[a-z.]{1,9}\\]?\\]\n){0,12}") {
        parse_all(&text);
        parse_all(&lines);
    }

    #[test]
    fn a_mistake_has_a_line_of_the_file(lines in prop::collection::vec("[a-z]{1,9} = [0-9]", 1..9)) {
        let text = lines.join("\n");
        let error = Boot::parse(&text).unwrap_err();
        prop_assert!((1..=lines.len()).contains(&error.line), "{}", error);
    }

    #[test]
    fn sizes_never_panic_or_wrap(text in "\\PC{0,24}", number: u64, unit in 0..5_usize) {
        let _ = text.parse::<Size>();
        let (letter, shift) = [("", 0), ("K", 10), ("M", 20), ("G", 30), ("T", 40)][unit];
        let found = format!("{number}{letter}").parse::<Size>().ok().map(|s| u128::from(s.0));
        let exact = u128::from(number) << shift;
        prop_assert_eq!(found, (exact <= u128::from(u64::MAX)).then_some(exact));
    }

    #[test]
    fn addresses_read_back_as_they_are_written(address: [u8; 4], prefix in 0..=32_u8, text in "\\PC{0,24}") {
        let _ = text.parse::<Cidr>();
        let cidr = Cidr { address: address.into(), prefix };
        prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
    }

    #[test]
    fn wild_patterns_are_what_they_are_by_definition(pattern in "[ab*?é]{0,7}", text in "[abé]{0,7}") {
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        let expected = wild_by_definition(&chars(&pattern), &chars(&text));
        prop_assert_eq!(wild(&pattern, &text), expected);
    }
}

#[test]
fn rules_of_disks_mounts_and_firmware_are_checked_before_a_machine_sees_them() {
    let partition = |label: &str, rest: &str| {
        format!(
            "[[disk.partition]]\nlabel = \"{label}\"\nfilesystem = \"btrfs\"\nsize = \"4G\"\n{rest}\n"
        )
    };
    let data = |rest: &str| format!("[[disk]]\n{}", partition("USERDATAFS", rest));
    let disk = |rest: &str| format!("[[disk]]\n{rest}\n{}", partition("SYSFS", ""));
    let nfs = |from: &str, rest: &str| format!("[[nfs]]\nfrom = '{from}'\nto = '/home'\n{rest}\n");
    let bind = |options: &str| format!("[[bind]]\nfrom = 'x'\nto = '/x'\noptions = '{options}'\n");
    let archive = |name: &str| format!("[[tmpfs]]\npath = '/etc'\narchive = '{name}'\n");
    for (file, text, sentence) in [
        ("drives", data("subvolumes = ['@a', '@b quota=5G snapshots=7']"), "fine"),
        ("drives", data("subvolumes = ['@b qota=5G']"), "\"qota=5G\" is neither quota=50G nor"),
        ("drives", data("subvolumes = ['@b quota=5']"), "fine"),
        ("drives", data("subvolumes = ['@b quota=much']"), "\"much\" is no size like"),
        ("drives", data("subvolumes = ['@b snapshots=-1']"), "is neither quota=50G"),
        ("drives", data("subvolumes = ['']"), "is no name for a subvolume"),
        ("drives", data("subvolumes = ['@a']\ndeleted_subvolumes = ['@a']"), "is there twice"),
        ("drives", data("deleted_subvolumes = ['@']"), "is no name for a subvolume"),
        ("drives", data("deleted_subvolumes = ['@old']"), "fine"),
        (
            "drives",
            format!("[[disk]]\n{}", partition("SYSFS", "subvolumes = ['@v quota=1G']")),
            "SYSFS cannot have quotas, snapshots or deletions: only USERDATAFS can",
        ),
        ("drives", data("flags = ['legacy-boot', 'no-auto']"), "fine"),
        (
            "drives",
            data("flags = ['legacyboot']"),
            "\"legacyboot\" is none of required, no-block-io, legacy-boot",
        ),
        ("drives", disk("match.path = '/dev/disk/by-id/ata-*'\ntake = true"), "fine"),
        ("drives", disk("match.path = '/dev/disk/by-uuid/1'"), "is no path of a disk"),
        ("drives", disk("match.path = 'sda'"), "drives.toml:2: \"sda\" is no path of a disk"),
        ("drives", disk("take = true"), "take = true needs a match"),
        ("drives", disk("optional = true"), "fine"),
        ("mounts", nfs("nas.lab.example:/home", "options = 'vers=4.1,noatime'"), "fine"),
        ("mounts", "nfs_timeout = 30\n".to_owned() + &nfs("[fd00::1]:/home", ""), "fine"),
        ("mounts", nfs("nas/home", ""), "is no directory of a server like nas:/home"),
        ("mounts", nfs(":/home", ""), "is no directory of a server like nas:/home"),
        ("mounts", nfs("nas:/home", "options = 'vers=4.1, noatime'"), "has blanks"),
        ("mounts", "nfs_timeout = 0\n".to_owned(), "1 to 600 seconds"),
        ("mounts", "[[nfs]]\nfrom = 'nas:/home'\nto = 'home'\n".to_owned(), "is no absolute path"),
        ("mounts", bind("noexec,ro"), "fine"),
        ("mounts", bind("noexc"), "a bind has no option \"noexc\" (did you mean `noexec`?)"),
        ("mounts", archive("etc.tar.zst"), "fine"),
        ("mounts", archive("gse/etc.tar.zst"), "fine"),
        ("mounts", archive("etc.tar.bz2"), "is no archive on BOOTFS like etc.tar.zst"),
        ("mounts", archive("../etc.tar.zst"), "is no archive on BOOTFS"),
        ("boot", "keep_logs = 3\nboot_order = [\"GSE*\"]\n".to_owned(), "fine"),
        ("boot", "keep_logs = 1000\n".to_owned(), "boot.toml:1: keep_logs is at most 100"),
        ("boot", "bootorder = [\"GSE*\"]\n".to_owned(), "did you mean `boot_order`?"),
    ] {
        let found = mistake(file, &text);
        assert!(found.contains(sentence), "{text}\n{found}");
    }
}
