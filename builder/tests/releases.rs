//! What is published: listed, compared, chosen, withdrawn, cleared away, as an administrator does it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod archive_support;

use std::{fs, path::Path};

use archive_support::{Lab, fail, gse, run};
use gse::{
    archive::{ArchiveOptions, archive},
    progress::Progress,
};
use gse_protocol::{Index, Release, Sha256, index::unpack};

/// A lab with two versions, of a system that has Portage's packages and dpkg's.
fn lab() -> Lab {
    let lab = Lab::new();
    package(&lab, "app-editors/nano-8.4", 100);
    package(&lab, "sys-apps/gone-1.0-r1", 50);
    dpkg(&lab, "1.0");
    fs::write(lab.tree.join("same"), "same").unwrap();
    fs::write(lab.tree.join("other"), "old").unwrap();
    lab.archive("1").unwrap();
    fs::remove_dir_all(lab.tree.join("var")).unwrap();
    package(&lab, "app-editors/nano-8.5", 400);
    package(&lab, "dev-lang/python-3.13.1", 7);
    dpkg(&lab, "1.1");
    fs::write(lab.tree.join("other"), "new").unwrap();
    lab.archive("2").unwrap();
    lab
}

fn package(lab: &Lab, name: &str, size: u64) {
    let folder = lab.tree.join("var/db/pkg").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("SIZE"), format!("{size}\n")).unwrap();
}

fn dpkg(lab: &Lab, version: &str) {
    let folder = lab.tree.join("var/lib/dpkg");
    fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "Package: dash\nStatus: install ok installed\nInstalled-Size: 2\nVersion: {version}\n\n"
    );
    fs::write(folder.join("status"), text).unwrap();
}

fn ask(lab: &Lab, flags: &[&str]) -> String {
    let output = run(gse(&lab.path(".")).args(["--dist=dist", "--key=key"]).args(flags));
    String::from_utf8(output.stdout).unwrap()
}

fn release(lab: &Lab) -> (Release, Index) {
    let read = |path: &Path| fs::read_to_string(lab.dist.join(path)).unwrap();
    let text = read(Path::new("latest.toml"));
    let release =
        Release::open(text.as_bytes(), &read(Path::new("latest.toml.minisig")), &lab.keys())
            .unwrap();
    let bytes = fs::read(lab.dist.join(&release.index.path)).unwrap();
    assert_eq!(Sha256::of(&bytes), release.index.sha256);
    let signature = read(Path::new(&format!("{}.minisig", release.index.path)));
    let index = Index::open(&bytes, &signature, &lab.keys()).unwrap();
    (release, index)
}

#[test]
fn an_older_version_becomes_the_default_with_a_higher_serial_of_its_own() {
    let lab = lab();
    let said = ask(&lab, &["--releases"]);
    assert!(said.contains("* #2       lab 2") && said.contains("  #1       lab 1"), "{said}");
    let said = ask(&lab, &["--default=1"]);
    assert_eq!(said, "machines take 1 at their next start, as serial 3\n");
    let (release, index) = release(&lab);
    assert_eq!((release.version.as_str(), release.serial.0, index.serial.0), ("1", 3, 1));
    assert_eq!(release.index.path, "images/lab-1/index.cbor.zst");
    assert_eq!(release.image.path, "images/lab-1/system.tar.zst");
    // What machines check, gse checks.
    ask(&lab, &["--verify=dist/latest.toml"]);
    let said = ask(&lab, &["--default=1"]);
    assert_eq!(said, "1 is the default already, with serial 3\n");
    lab.archive("3").unwrap();
    let list: serde_json::Value =
        serde_json::from_str(&ask(&lab, &["--releases", "--json"])).unwrap();
    assert_eq!((&list[0]["version"], &list[0]["serial"]), (&"3".into(), &4.into()));
    assert_eq!(list[0]["standing"], "default");
}

#[test]
fn a_later_index_is_published_as_what_makes_it_out_of_the_earlier_ones_too() {
    let lab = Lab::new();
    for number in 0..300 {
        fs::write(lab.tree.join(number.to_string()), format!("{number} is no {}", number * 7))
            .unwrap();
    }
    let publish = |version| {
        let options = ArchiveOptions { patches: 2, ..lab.options(version) };
        archive(&options, &Progress::silent()).unwrap();
        release(&lab).0.index
    };
    assert_eq!(publish("1").since, []);
    fs::write(lab.tree.join("new"), "new").unwrap();
    publish("2");
    fs::write(lab.tree.join("newer"), "newer").unwrap();
    let index = publish("3");
    let whole = fs::read(lab.dist.join(&index.path)).unwrap();
    let cbor = unpack(&whole, &[]).unwrap();
    assert_eq!(Sha256::of(&cbor), index.content);
    assert_eq!(index.since.len(), 2);
    for (delta, older) in index.since.iter().zip(["2", "1"]) {
        assert_eq!(delta.path, format!("images/lab-3/from-{older}.index.zst"));
        let older = fs::read(lab.dist.join(format!("images/lab-{older}/index.cbor.zst"))).unwrap();
        let older = unpack(&older, &[]).unwrap();
        assert_eq!(delta.content, Sha256::of(&older));
        let bytes = fs::read(lab.dist.join(&delta.path)).unwrap();
        assert_eq!((delta.size, delta.sha256), (bytes.len() as u64, Sha256::of(&bytes)));
        assert!(delta.size < index.size / 10, "{} of {} bytes", delta.size, index.size);
        assert!(unpack(&bytes, &older).unwrap() == cbor);
    }
    let fetched = |old| {
        let json = ask(&lab, &["--diff", old, "3", "--json"]);
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["index"].as_u64().unwrap()
    };
    assert_eq!([fetched("2"), fetched("1")], [0, 1].map(|number| index.since[number].size));
    assert_eq!(fetched("3"), index.size);

    // It is the same for all releases of an image.
    ask(&lab, &["--default=2"]);
    ask(&lab, &["--default=3"]);
    assert_eq!(release(&lab).0.index, index);
    ask(&lab, &["--verify=dist/latest.toml"]);
    let delta = lab.dist.join(&index.since[1].path);
    fs::write(&delta, "damaged").unwrap();
    let said = fail(gse(&lab.path(".")).args(["--verify=dist/latest.toml", "--pub=key.pub"]), 1);
    assert!(said.contains("from-1.index.zst is not what latest.toml names"), "{said}");
    // One that is gone is fetched by nobody.
    fs::remove_file(&delta).unwrap();
    ask(&lab, &["--verify=dist/latest.toml"]);
    ask(&lab, &["--default=2"]);
    ask(&lab, &["--default=3"]);
    assert_eq!(release(&lab).0.index.since, [index.since[0].clone()]);
    // Where another tree is published under the name, it has to be worth it.
    fs::remove_dir_all(&lab.tree).unwrap();
    fs::create_dir(&lab.tree).unwrap();
    fs::write(lab.tree.join("other"), "other").unwrap();
    assert_eq!(publish("4").since, []);
}

#[test]
fn two_versions_are_compared_by_packages_files_and_sizes() {
    let lab = lab();
    let said = ask(&lab, &["--diff", "1", "2"]);
    for line in [
        "lab 1 -> lab 2\n",
        "      app-editors/nano 8.4 -> 8.5 (+300 B)\n",
        "      dash 1.0 -> 1.1\n",
        "    + dev-lang/python 3.13.1 (+7 B)\n",
        "    - sys-apps/gone 1.0-r1 (-50 B)\n",
        "  changed 2 files           78 B\n",
        "  new     2 files            6 B\n",
        "  gone    2 files            7 B\n",
        "  there is no patch file from the older image\n",
    ] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&ask(&lab, &["--diff", "1", "2", "--json"])).unwrap();
    assert_eq!(json["packages"].as_array().unwrap().len(), 4);
    assert!(ask(&lab, &["--diff", "2", "2"]).contains("packages: the same"));
}

#[test]
fn what_is_withdrawn_is_replaced_and_removed_when_asked_twice() {
    let lab = lab();
    let said = ask(&lab, &["--withdraw=2"]);
    assert!(
        said.contains("2 is offered no longer; machines take 1 at their next start, as serial 3"),
        "{said}"
    );
    assert!(ask(&lab, &["--releases"]).contains("x #2       lab 2"));
    let failed = |flags: &[&str]| {
        fail(gse(&lab.path(".")).args(["--dist=dist", "--key=key"]).args(flags), 1)
    };
    assert!(failed(&["--withdraw=1"]).contains("there is no other version"));
    assert!(failed(&["--default=7"]).contains("these are: 1, 2"));
    let said = ask(&lab, &["--prune"]);
    assert!(
        said.contains("images/lab-2  withdrawn") && said.contains("nothing was removed yet"),
        "{said}"
    );
    assert!(lab.dist.join("images/lab-2").exists());
    ask(&lab, &["--prune", "--force"]);
    assert!(!lab.dist.join("images/lab-2").exists() && lab.dist.join("images/lab-1").exists());
    assert_eq!(ask(&lab, &["--prune=0"]), "nothing to remove\n");
    release(&lab);
}

#[test]
fn a_version_that_was_withdrawn_can_be_chosen_again() {
    let lab = lab();
    ask(&lab, &["--withdraw=1"]);
    ask(&lab, &["--default=1"]);
    assert!(ask(&lab, &["--releases"]).contains("* #3       lab 1"));
}

#[test]
fn an_image_that_is_damaged_is_not_compared() {
    let lab = lab();
    let image = lab.dist.join("images/lab-2/system.tar.zst");
    let mut bytes = fs::read(&image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&image, bytes).unwrap();
    let said = fail(gse(&lab.path(".")).args(["--dist=dist", "--key=key", "--diff", "1", "2"]), 1);
    assert!(said.contains("is not what the index says"), "{said}");
}
