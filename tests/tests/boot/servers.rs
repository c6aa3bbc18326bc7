//! Servers that fail, and servers that only speak HTTPS.

use std::fs;

use gse_qemu::{Exit, Filesystem, fixtures::Flavour};
use gse_tests::{
    disk,
    lab::{Watch as _, scratch},
    liar::{self, Lie},
    small::{self, banner},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An installed machine whose server lies about version 2 boots version 1, and says this.
fn boots_what_it_has(lie: Lie, sentences: &[&str]) {
    let dir = scratch();
    let (mut lab, disk) = small::installed(dir.path(), |_| {});
    // More than the first part of an answer that is cut off, and nothing that the machine has.
    let new: Vec<u8> =
        (0..100_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    small::publish(&lab, "2", |tree| fs::write(tree.join("new"), new).unwrap());
    lab.stop_server();
    let requests = liar::start(lab.port(), lab.dist(), lie);
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(sentences);
    machine.shows(&[&banner("1"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert!(requests.try_recv().is_ok(), "the machine never asked");
    assert_eq!(disk::slot_labels(&disk)[0], "SYSFS");
}

#[test]
fn a_server_that_answers_500_is_no_server() {
    boots_what_it_has(
        Lie::Broken,
        &["no server has a release that can be used", "HTTP status 500"],
    );
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    boots_what_it_has(
        Lie::Hangs,
        &["no server has a release that can be used", "no answer in time"],
    );
}

#[test]
fn a_server_that_sends_less_than_it_says_is_given_up() {
    boots_what_it_has(
        Lie::Less,
        &["offers 2", "going on at byte 100000", "was not installed", "no server gives more"],
    );
}

#[test]
fn a_machine_with_an_empty_clock_trusts_a_private_authority() {
    let dir = scratch();
    let mut lab = small::unbuilt(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    // Not valid in 1970.
    let since = rcgen::date_time_ymd(2025, 1, 1);
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.not_before = since;
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(["10.0.2.2".to_owned()]).unwrap();
    server.not_before = since;
    let server = server.signed_by(&key, &authority).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let certificate = file("server.pem", &server.pem());
    lab.start_tls_server(&certificate, &file("server.key", &key.serialize_pem())).unwrap();

    let sources = fs::read_to_string(lab.config().join("sources.toml")).unwrap();
    let sources = sources.replace("http://", "https://") + "tls_roots = \"roots.pem\"\n";
    lab.write_config("sources.toml", &sources).unwrap();
    lab.write_config("roots.pem", &authority.pem()).unwrap();
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let empty_battery = lab.machine().clock("1970-01-01T00:00:00");
    let machine = empty_battery.disk(disk.clone()).start().unwrap();
    machine.shows(&["server https://10.0.2.2:", "offers 1", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);

    // A server that the authority does not know is none.
    let key = KeyPair::generate().unwrap();
    let mut stranger = CertificateParams::new(["10.0.2.2".to_owned()]).unwrap();
    stranger.not_before = since;
    let stranger = stranger.self_signed(&key).unwrap();
    let certificate = file("stranger.pem", &stranger.pem());
    lab.start_tls_server(&certificate, &file("stranger.key", &key.serialize_pem())).unwrap();
    let machine = lab.machine().disk(disk).start().unwrap();
    machine.shows(&["no server has a release that can be used", "TLS: ", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}
