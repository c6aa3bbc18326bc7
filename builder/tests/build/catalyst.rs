//! `gse --base=catalyst`, with a program that has catalyst's command line, refusals and products.

use std::{fs, process::Command};

use crate::{
    support::{Lab, both, small_tree},
    whole,
};

const SPEC: &str = "subarch: amd64\nversion_stamp: openrc-@TIMESTAMP@\nrel_type: 23.0-default\n\
    profile: default/linux/%(subarch)s/23.0\nsnapshot_treeish: @TREEISH@\nportage_confdir: @REPO_DIR@/portage\n\
    compression_mode: tar\n";

/// Parts B and so on, which are the same for both bases.
const PART_A: &str = "--lawful-good=gpartb,gpartc,gparte,gpartf,gpartg,gparth,gpartj,gpartk";

/// With stages that are made from the mirror's stage3.
fn lab() -> Lab {
    let lab = Lab::of("catalyst");
    lab.write("catalyst/catalyst.conf", "jobs = 2\noptions = [\"bindist\"]\n");
    lab.write("catalyst/catalystrc", "export MAKEOPTS=\"-j2\"\n");
    let stage1 = "target: stage1\nsource_subpath: @SEED@\nupdate_seed: yes\n\
                  update_seed_command: --update --deep --newuse @world\n";
    lab.write("catalyst/stage1.spec", &format!("{SPEC}{stage1}"));
    let stage3 =
        "target: stage3\nsource_subpath: %(rel_type)s/stage1-%(subarch)s-%(version_stamp)s\n";
    lab.write("catalyst/stage3.spec", &format!("{SPEC}{stage3}"));
    lab
}

/// With stages that are made from a tarball of two megabytes, which is in catalyst's store.
fn small() -> Lab {
    let lab = lab();
    let own = format!("{SPEC}target: stage1\nsource_subpath: mine/stage3\n");
    lab.write("catalyst/stage1.spec", &own);
    let (tree, mine) =
        (lab.dir.path().join("small"), lab.local().join("catalyst/store/builds/mine"));
    small_tree(&tree);
    fs::create_dir_all(&mine).unwrap();
    let tar = Command::new("tar")
        .args(["--create", "--file"])
        .arg(mine.join("stage3.tar"))
        .arg("--directory")
        .arg(&tree)
        .arg(".")
        .status();
    assert!(tar.unwrap().success());
    lab
}

/// How often catalyst was started for a stage.
fn started(lab: &Lab, stage: &str) -> usize {
    lab.log("gcat").matches(&format!("Using target: {stage}\n")).count()
}

#[test]
fn a_system_is_built_from_the_stages_of_catalyst() {
    let lab = lab();
    whole::configure(&lab);
    let stage4 = "target: stage4\nsource_subpath: 23.0-default/stage3-amd64-openrc-@TIMESTAMP@\n\
                  stage4/use: lab\nstage4/packages:\n\tapp-misc/robust\n\tapp-misc/lab-tools\n";
    lab.write("catalyst/stage4.spec", &format!("{SPEC}{stage4}"));
    let said = lab.builds(&["--quiet"]);
    let expected = [
        "Checking this machine",
        "Looking for the latest stage3",
        "Fetching the portage snapshot",
        "Building the stages with catalyst",
        "Extracting tarball",
        "Part B: preparing to enter the new system",
    ];
    assert_eq!(said.lines().take(expected.len()).collect::<Vec<_>>(), expected);
    for stage in ["stage1", "stage3", "stage4"] {
        assert_eq!(started(&lab, stage), 1, "{stage}");
        let made = fs::read_to_string(lab.tree(&format!("etc/catalyst-{stage}"))).unwrap();
        let (profile, treeish) = made.trim().split_once(' ').unwrap();
        assert_eq!((profile, treeish.len()), ("default/linux/amd64/23.0", 40));
        let spec = fs::read_to_string(lab.local().join(format!("catalyst/{stage}.spec"))).unwrap();
        assert!(spec.contains(&format!("\nsnapshot_treeish: {treeish}\n")), "{spec}");
        let folder = format!("\nportage_confdir: {}/portage\n", lab.config().display());
        assert!(spec.contains(&folder), "{spec}");
    }
    let conf = fs::read_to_string(lab.local().join("catalyst/catalyst.conf")).unwrap();
    let environment = format!("envscript = \"{}/catalyst/catalystrc\"", lab.config().display());
    for line in ["options = [\"bindist\", \"autoresume\"]", "jobs = 2", &environment] {
        assert!(conf.lines().any(|l| l == line), "{line} in {conf}");
    }
    // What comes after part A is the same work, with the ebuild repository that catalyst built from.
    assert!(lab.tree("usr/bin/lab-tools").exists());
    assert!(lab.state().contains("finished = true"));
    let snapshot = fs::read_dir(lab.local().join("downloads")).unwrap().flatten();
    let tars = snapshot.filter(|f| f.file_name().to_string_lossy().starts_with("gentoo-"));
    assert_eq!(tars.count(), 1);
    // Everything was compiled here already.
    lab.configure(&[lab.url()], "[portage]\nrebuild = true\n");
    assert!(lab.builds(&["--enforce=gpartg"]).contains("grebuild: not asked for"));
}

#[test]
fn what_is_killed_in_a_stage_goes_on_in_it() {
    let lab = small();
    let killed = lab.killed_with(&[PART_A], &[("CATALYST_WAITS", "stage3")], |_, line| {
        line.ends_with("waiting in stage3")
    });
    assert!(killed && lab.state().contains("running = \"gcat\""), "{}", lab.state());
    lab.builds(&[PART_A]);
    let log = lab.log("gcat");
    assert!(log.contains("stage1-amd64-openrc-") && log.contains("is here already, and good"));
    assert_eq!((started(&lab, "stage1"), started(&lab, "stage3")), (1, 2));
    assert!(log.contains("Resume point detected, skipping unpack"), "{log}");
    assert!(lab.tree("etc/catalyst-stage3").exists());

    // By force, nothing of what was there counts.
    lab.builds(&[PART_A, "--enforce=gcat"]);
    assert_eq!((started(&lab, "stage1"), started(&lab, "stage3")), (2, 3));
    assert!(lab.log("gcat").contains("Removing AutoResume Points"));
}

#[test]
fn what_catalyst_fails_at_or_what_was_changed_after_it_is_not_unpacked() {
    let lab = small();
    let output = lab.command(&[PART_A, "--auto=no"]).env("CATALYST_FAILS", "stage3").output();
    let said = both(&output.unwrap());
    assert!(said.contains("stopped at gcat") && said.contains("ended with 2"), "{said}");
    assert!(!lab.tree("").exists());

    lab.builds(&[&format!("{PART_A},gextr")]);
    let builds = lab.local().join("catalyst/store/builds/23.0-default");
    let tar = fs::read_dir(&builds).unwrap().flatten().map(|file| file.path()).find(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("stage3-") && name.ends_with(".tar")
    });
    let tar = tar.unwrap();
    let mut bytes = fs::read(&tar).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&tar, bytes).unwrap();
    let said = lab.fails(&[PART_A, "--enforce=gextr"]);
    assert!(said.contains("was changed since it was verified"), "{said}");
    assert!(!lab.tree("").exists());
    // Made again, it is another one.
    let before = started(&lab, "stage3");
    lab.builds(&[PART_A, "--enforce=gcat"]);
    assert_eq!(started(&lab, "stage3"), before + 1);
    assert!(lab.tree("etc/catalyst-stage3").exists());
}

#[test]
fn what_catalyst_could_not_build_is_refused_before_anything_is_done() {
    let wrong = |name: &str, text: &str, expected: &[&str]| {
        let lab = lab();
        lab.write(name, text);
        let said = lab.fails(&[PART_A]);
        assert!(expected.iter().all(|e| said.contains(e)), "{said}");
        assert!(!lab.local().exists(), "something was begun");
    };
    wrong("catalyst/catalyst.conf", "storedri = \"/x\"\n", &["catalyst.conf:1", "`storedir`"]);
    wrong("catalyst/stage1.spec", "target: stage1\n", &["stage1.spec: ", "is missing"]);
    let stage3 = format!("{SPEC}target: stage3\nsource_subpath: a/b\n");
    wrong("catalyst/stage3.spec", &stage3, &["stage3.spec:9", "stage1.spec makes"]);
    wrong("catalyst/stage5.spec", "", &["system/catalyst/stage5.spec", "nothing is known"]);

    let lab = lab();
    let seedless = format!("{SPEC}target: stage1\nsource_subpath: mine/stage3\n");
    lab.write("catalyst/stage1.spec", &seedless);
    let said = lab.fails(&[PART_A]);
    assert!(said.contains("mine/stage3, which is not there") && said.contains("@SEED@"), "{said}");
    assert!(lab.log("build").contains("gseed: not asked for"));

    let lab = Lab::of("catalyst");
    let said = lab.fails(&[PART_A]);
    assert!(said.contains("there is no spec"), "{said}");
}
