//! Hook points, scripts around them, flags: with a tree of two megabytes.

use std::{fs, process::Command};

use gse::build::hook::Hook;

use crate::support::{GSE, Lab, small_tree};

/// The tree is that of a script's, and there is no Portage in it.
fn lab() -> Lab {
    let lab = Lab::new();
    small_tree(&lab.dir.path().join("small"));
    fs::create_dir(lab.dir.path().join("scripts")).unwrap();
    script(&lab, "tree", "cp -a \"$GSE_LOCAL/../small\" \"$GSE_TREE\"");
    lab
}

fn script(lab: &Lab, name: &str, text: &str) {
    fs::write(lab.dir.path().join("scripts").join(name), format!("{text}\n")).unwrap();
}

fn sdir(lab: &Lab) -> String {
    format!("--sdir={}", lab.dir.path().join("scripts").display())
}

const WITHOUT: &str = "--lawful-good=gparta gpartc ginstall gpartj";

#[test]
fn scripts_run_around_hook_points_outside_and_inside_in_their_order() {
    let lab = lab();
    script(&lab, "outside", "echo \"$GSE_HOOK outside $0\" >>\"$GSE_LOCAL/order\"");
    script(&lab, "inside", "test \"$GSE_TREE\" = / && echo \"$GSE_HOOK inside\" >>/order");
    lab.write("files/etc/motd", "hello\n");
    let flags = [
        "--do=tree,outside outside,outside inside inside,inside outside",
        "-g=-gextr,+gparta,-gparte,+gconfigure,+gclean",
    ];
    lab.builds(&[WITHOUT, &sdir(&lab), flags[0], flags[1]]);
    let scripts = lab.dir.path().join("scripts/outside");
    let line = |hook: &str| format!("{hook} outside {}\n", scripts.display());
    let expected = ["gextr", "gparta", "gparta", "gclean"].map(line).concat();
    assert_eq!(fs::read_to_string(lab.local().join("order")).unwrap(), expected);
    let inside = fs::read_to_string(lab.tree("order")).unwrap();
    assert_eq!(inside, "gparte inside\ngconfigure inside\ngconfigure inside\n");
    assert_eq!(fs::read_to_string(lab.tree("etc/motd")).unwrap(), "hello\n");
    let listing = fs::read_to_string(lab.local().join("doscripts")).unwrap();
    assert!(
        listing.starts_with("# Requested Scripts\n# Hook:Script\n-gextr:tree\n-gextr:outside\n"),
        "{listing}"
    );
}

/// The second example of the seed, which makes the process one's own: what it passes, scripts do.
#[test]
fn passed_hook_points_are_replaced_by_scripts() {
    let lab = lab();
    let say = "echo \"$GSE_SIDE $GSE_HOOK of $GSE_BASE: ${0##*/}\"";
    script(
        &lab,
        "script1",
        &format!("{say} >>\"$GSE_LOCAL/order\"; test -d \"$GSE_CONFIG/system\""),
    );
    script(&lab, "script2", "cp -a \"$GSE_LOCAL/../small\" \"$GSE_LOCAL/mine\"");
    script(&lab, "script3", "test ! -e \"$GSE_TREE\"; mv \"$GSE_LOCAL/mine\" \"$GSE_TREE\"");
    script(&lab, "script4", &format!("{say} >>/order"));
    script(&lab, "script5", &format!("{say} >>/order; test \"$GSE_TREE\" = /"));
    let said = lab.builds(&[
        &sdir(&lab),
        "--do=script1,script2 script3 script4,script5",
        "-g=-gprec,-gextr,+gupdate",
        "--lawful-good=gprec,gextr,gupdate",
        // No stage3 means no Portage.
        "--lawful-good=gportage,gapply-new,ginstall,gpartj",
    ]);
    for hook in ["gprec", "gextr", "gupdate"] {
        assert!(said.contains(&format!("{hook}: passed, as --lawful-good says")), "{said}");
    }
    let order = fs::read_to_string(lab.local().join("order")).unwrap();
    assert_eq!(order, "before gprec of precomp: script1\n");
    let inside = fs::read_to_string(lab.tree("order")).unwrap();
    assert_eq!(inside, "after gupdate of precomp: script4\nafter gupdate of precomp: script5\n");
    let listing = fs::read_to_string(lab.local().join("doscripts")).unwrap();
    let expected =
        "-gprec:script1\n-gprec:script2\n-gextr:script3\n+gupdate:script4\n+gupdate:script5\n";
    assert_eq!(listing, format!("# Requested Scripts\n# Hook:Script\n{expected}"));
}

/// A state has scripts, configuration and time of its own, so what came out of it comes out of it again.
#[test]
fn a_warp_publishes_the_same_bytes_although_scripts_and_configuration_were_changed() {
    let lab = lab();
    script(&lab, "tree", "rm -rf \"$GSE_TREE\"; cp -a \"$GSE_LOCAL/../small\" \"$GSE_TREE\"");
    script(&lab, "outside", "echo one >>\"$GSE_LOCAL/order\"; echo one >\"$GSE_TREE/by-script\"");
    lab.write("files/etc/motd", "first\n");
    let [key, dist] = ["gse.key", "dist.d"].map(|name| lab.dir.path().join(name));
    let [keygen, key, to] = [
        format!("--keygen={}", key.display()),
        format!("--key={}", key.display()),
        format!("--dist={}", dist.display()),
    ];
    assert!(Command::new(GSE).arg(&keygen).output().unwrap().status.success());
    let sdir = sdir(&lab);
    let scripts = ["--do=tree outside", "-g=-gextr,+gclean", &sdir];
    let flags = [&scripts[..], &[WITHOUT, "--version=1", &key, &to]].concat();
    lab.builds(&[&flags[..], &["--time-state=mine"]].concat());
    script(&lab, "outside", "echo two >\"$GSE_TREE/by-script\"");
    lab.write("files/etc/motd", "second\n");
    lab.builds(&[&scripts[..], &[WITHOUT, "--version=2", &key, &to]].concat());
    lab.warps("mine");
    let read = |path: &std::path::Path| fs::read_to_string(path).unwrap();
    assert_eq!(read(&lab.tree("etc/motd")), "first\n");
    assert_eq!(read(&lab.local().join("order")), "one\none\n");
    let image = |version: &str| dist.join(format!("images/gse-{version}/system.tar.zst"));
    let bytes = |version: &str| fs::read(image(version)).unwrap();
    let list = |version: &str| {
        let mut tar = Command::new("tar");
        tar.args(["--zstd", "--full-time", "-tvf"]).arg(image(version));
        String::from_utf8(tar.output().unwrap().stdout).unwrap()
    };
    assert!(bytes("1") != bytes("2"));
    for (first, again) in list("1").lines().zip(list("1+2").lines()) {
        assert_eq!(first, again);
    }
    assert!(bytes("1") == bytes("1+2"), "the same list, but other bytes");
}

#[test]
fn scripts_run_around_each_part_and_hook_point_even_where_all_is_passed() {
    let lab = lab();
    script(&lab, "before", "echo \"-$GSE_HOOK\" >>\"$GSE_TREE/order\"");
    script(&lab, "after", "echo \"+$GSE_HOOK\" >>\"$GSE_TREE/order\"");
    let hooks: Vec<_> = Hook::all().map(Hook::name).collect();
    let scripts = "before after ".repeat(hooks.len());
    let places: Vec<_> = hooks.iter().map(|hook| format!("-{hook},+{hook}")).collect();
    // The tree has to be there for the first of them.
    let flags = [
        &sdir(&lab),
        &format!("--do=tree {}", scripts.trim()),
        &format!("-g=-gfund,{}", places.join(",")),
        "--lawful-good=all",
    ];
    lab.builds(&flags);
    let expected = Hook::parts().flat_map(|part| {
        let inner = part.inside().flat_map(|hook| [format!("-{hook}"), format!("+{hook}")]);
        let inner: Vec<_> = inner.collect();
        [vec![format!("-{part}")], inner, vec![format!("+{part}")]].concat()
    });
    let order = fs::read_to_string(lab.tree("order")).unwrap();
    assert_eq!(order.lines().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn a_script_that_fails_stops_the_build_which_goes_on_with_it() {
    let lab = lab();
    script(&lab, "fails", "echo here >>/tried; echo sorry >&2; test -e /mended");
    let flags = [&sdir(&lab), "--do=tree fails", "-g=-gextr,-gconfigure", WITHOUT];
    let said = lab.fails(&flags);
    assert!(said.contains("sorry") && said.contains("stopped at -gconfigure:fails"), "{said}");
    lab.fails(&flags);
    fs::write(lab.tree("mended"), "").unwrap();
    let said = lab.builds(&[&flags[..], &["--quiet"]].concat());
    assert!(
        said.contains("Writing configuration files") && !said.contains("preparing to enter"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(lab.tree("tried")).unwrap(), "here\n".repeat(3));
}

/// With a log of what the scripts did: the tree is made, and later something is done in it.
#[test]
fn what_is_done_already_can_stay_or_be_run_again_from_a_hook_point_on() {
    let lab = lab();
    script(&lab, "note", "echo \"$GSE_HOOK\" >>\"$GSE_LOCAL/order\"");
    let sdir = sdir(&lab);
    let flags = [
        &sdir,
        "--do=tree note note note",
        "-g=-gextr,+gpartb,+gclean,+gparte",
        WITHOUT,
        "--quiet",
    ];
    lab.write("files/etc/motd", "first\n");
    lab.builds(&flags);
    let motd = || fs::read_to_string(lab.tree("etc/motd")).unwrap();
    let mark = lab.tree("mine");
    fs::write(&mark, "").unwrap();
    lab.write("files/etc/motd", "second\n");

    // It came to its end, and stays as it is.
    let (said, success) = lab.typed(&flags, &["continue"]);
    assert!(success && said.contains("An earlier build came to its end."), "{said}");
    assert!(said.contains("The configuration was changed since"), "{said}");
    assert!(!said.contains("Writing configuration files"), "{said}");
    assert_eq!(motd(), "first\n");

    // From a hook point on: only what is done can be named, and what comes before it stays.
    let (said, success) = lab.typed(&flags, &["from", "ginstall", "gconfigure"]);
    assert!(success && !said.contains("gkernel") && said.contains("Cleaning up"), "{said}");
    assert!(!said.contains("preparing to enter the new system\r\nWriting"), "{said}");
    assert_eq!(motd(), "second\n");
    assert!(mark.exists());

    // And all of it. Where nobody is asked, a build that came to its end is no beginning of another.
    fs::rename(lab.tree(""), lab.local().join("aside")).unwrap();
    let (said, success) = lab.typed(&flags, &["again"]);
    assert!(success && !mark.exists(), "{said}");
    fs::rename(lab.tree(""), lab.local().join("aside2")).unwrap();
    assert!(lab.builds(&flags).contains("preparing to enter"));
}

#[test]
fn every_hook_point_can_be_left_out() {
    let lab = Lab::new();
    let said = lab.builds(&["--lawful-good=all", "--enforce=all"]);
    let passed =
        said.lines().filter(|line| line.ends_with(": passed, as --lawful-good says")).count();
    // All but the one that is catalyst's.
    let work = Hook::all().filter(|hook| hook.place().is_some() && *hook != Hook::Catalyst);
    assert_eq!(passed, work.count());
    assert!(!lab.tree("").exists());
}

#[test]
fn work_without_a_system_to_work_in_says_so() {
    let lab = Lab::new();
    let said = lab.fails(&["--lawful-good=gparta"]);
    assert!(said.contains("there is no system in"), "{said}");
}

#[test]
fn each_mode_shows_its_share_and_logs_everything() {
    let script_says = |mode: &[&str]| {
        let lab = lab();
        script(&lab, "talk", "echo out; echo err >&2");
        let sdir = sdir(&lab);
        let flags = [&sdir, "--do=tree talk", "-g=-gextr,+gparta", "--lawful-good=all"];
        let output = lab.build(&[&flags, mode].concat());
        assert!(output.status.success());
        let log = lab.log("build");
        assert!(
            log.contains("\nout\n") && log.contains("\nerr\n") && log.contains("+ GSE_HOOK=gparta"),
            "{log}"
        );
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (out, err) = script_says(&[]);
    assert!(out.contains("\nout\n") && err.contains("err\n") && !err.contains("+ "), "{out}{err}");
    let (out, err) = script_says(&["--verbose"]);
    assert!(out.contains("\nout\n") && err.contains("+ GSE_HOOK=gparta"), "{out}{err}");
    assert!(err.contains("\n+ echo out\n"), "the script's own commands: {err}");
    let (out, err) = script_says(&["--quiet"]);
    assert!(
        !out.contains("out\n") && err.is_empty() && out.contains("+gparta:talk\n"),
        "{out}{err}"
    );
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let lab = lab();
    let sdir = sdir(&lab);
    let cases: [(&[&str], &str); 9] = [
        (&["--kernel=/nowhere"], "looking for /nowhere"),
        (&["--no-kernel", "--kernel=/etc/passwd"], "cannot be used with"),
        (&["--verbose", "--auto=yes"], "exclude each other"),
        (&["--verbose", "--quiet"], "cannot be used with"),
        (&["--lawful-good=gpartz"], "there is no hook point \"gpartz\""),
        (&[&sdir, "--do=tree tree", "-g=-gextr"], "(nothing)        tree"),
        (&[&sdir, "--do=nothing", "-g=-gextr"], "is no file in the directory"),
        (&[&sdir], "required"),
        (&["--on-failure=cry"], "invalid value"),
    ];
    for (flags, expected) in cases {
        let output = lab.command(flags).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{flags:?}: {said}");
    }
    assert!(!lab.local().exists(), "nothing was begun");
}

#[test]
fn a_system_is_published_under_the_version_that_is_named() {
    let lab = lab();
    let (key, dist) = (lab.dir.path().join("gse.key"), lab.dir.path().join("dist.d"));
    let gse = |words: &[&str]| {
        let output = std::process::Command::new(crate::support::GSE).args(words).output().unwrap();
        assert!(output.status.success(), "{}", crate::support::both(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let (key, dist) = (key.display().to_string(), dist.display().to_string());
    let flags = [
        &sdir(&lab),
        "--do=tree",
        "-g=-gextr",
        WITHOUT,
        &format!("--dist={dist}"),
        &format!("--key={key}"),
    ];
    // The key is looked at before anything is done.
    let said = lab.fails(&[&flags[..], &["--version=1"]].concat());
    assert!(said.contains("gse.key") && !lab.tree("").exists(), "{said}");

    gse(&[&format!("--keygen={key}")]);
    let said = lab.builds(&[&flags[..], &["--version=1", "--name=lab"]].concat());
    assert!(said.contains("published lab 1 as serial 1"), "{said}");
    let public = format!("--pub={key}.pub");
    let release = gse(&[&format!("--verify={dist}/latest.toml"), &public]);
    assert!(release.contains("lab"), "{release}");
    // Of what was mounted in it while it was built, nothing is in the image.
    let image = format!("{dist}/images/lab-1/system.tar.zst");
    let list = std::process::Command::new("tar").args(["--zstd", "-tf", &image]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(
        list.contains("bin/busybox") && !list.contains("run/gse") && !list.contains("proc/self"),
        "{list}"
    );

    // A version is published once, which comes to light at the beginning too.
    for (version, expected) in
        [("1", "a published version never changes"), ("a b", "may only have letters")]
    {
        let flag = format!("--version={version}");
        let said = lab.fails(&[&flags[..], &[&flag, "--name=lab", "--force-new"]].concat());
        assert!(said.contains(expected) && !said.contains("stopped at"), "{said}");
    }

    // Another version only lies ready.
    let said =
        lab.builds(&[&flags[..], &["--version=1a", "--enforce=gmark", "--mark=no"]].concat());
    assert!(said.contains("gse 1a lies ready in"), "{said}");
    gse(&[&format!("--verify={dist}/images/gse-1a/index.cbor.zst"), &public]);
    let release = gse(&[&format!("--verify={dist}/latest.toml"), &public]);
    assert!(release.contains("serial 1,"), "{release}");

    // The same tree again, without a word of publishing, and then as another version.
    assert!(lab.builds(&["--enforce=gpartg", WITHOUT]).contains("gmark: not asked for"));
    lab.builds(&[&flags[..], &["--version=2", "--enforce=gmark"]].concat());
    let release = gse(&[&format!("--verify={dist}/latest.toml"), &public]);
    assert!(release.contains("serial 3,"), "{release}");
    // Who is there is asked, before anything is done.
    let more = ["--version=3", "--enforce=gmark", "--quiet"];
    let (said, success) = lab.typed(&[&flags[..], &more].concat(), &["no"]);
    let question = said.find("make gse 3 the default system of all machines?");
    assert!(success && question < said.find("Checking this machine"), "{said}");
    assert!(!gse(&[&format!("--verify={dist}/latest.toml"), &public]).contains("serial 4,"));
}

const INSIDE: &str = "--lawful-good=gpartb,gpartc,gparte,gpartf,gpartg,gpartj,gpartk";

#[test]
fn an_earlier_tree_is_kept_aside_and_sources_are_fetched_again_when_asked_for() {
    let lab = Lab::with_small_stage3();
    lab.builds(&[INSIDE]);
    fs::write(lab.tree("mine"), "").unwrap();
    lab.builds(&[INSIDE, "-k"]);
    assert!(!lab.tree("mine").exists());
    let aside = fs::read_dir(lab.local()).unwrap().flatten().map(|entry| entry.path());
    let aside: Vec<_> = aside.filter(|path| path.join("mine").exists()).collect();
    assert!(
        matches!(aside.as_slice(), [path] if path.to_string_lossy().contains("workdir-precomp-")),
        "{aside:?}"
    );
    // The sources were good; the flag says that this does not count.
    for name in ["gprec", "gsnap"] {
        assert!(lab.log(name).contains("is here already"), "{}", lab.log(name));
    }
    lab.builds(&[INSIDE, "-fn"]);
    for name in ["gprec", "gsnap"] {
        assert!(!lab.log(name).contains("is here already"), "{}", lab.log(name));
    }
}

#[test]
fn each_hook_point_of_part_a_is_done_again_by_force_and_left_out_all_the_same() {
    let lab = Lab::with_small_stage3();
    lab.builds(&[INSIDE]);
    for (hook, after) in [
        (Hook::Seed, vec![Hook::Snapshot, Hook::Precompiled, Hook::Extract]),
        (Hook::Snapshot, vec![]),
        (Hook::Precompiled, vec![Hook::Extract]),
        (Hook::Extract, vec![]),
    ] {
        let enforce = format!("--enforce={hook}");
        let said = lab.builds(&[&enforce[..], "--quiet", INSIDE]);
        let steps: Vec<_> = said.lines().filter(|l| Hook::all().any(|h| h.does() == *l)).collect();
        let expected = [vec![Hook::Fundamentals, hook], after].concat();
        assert_eq!(steps, expected.into_iter().map(Hook::does).collect::<Vec<_>>(), "{hook}");
        let said = lab.builds(&[&enforce[..], &format!("--lawful-good={hook},gextr"), INSIDE]);
        assert!(said.contains(&format!("{hook}: passed, as --lawful-good says")), "{hook}: {said}");
    }
}

/// A filesystem of its own, of a size that can change.
struct Room(tempfile::TempDir);

impl Room {
    fn mount(&self, option: &str, bytes: usize) {
        let options = format!("{option}size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "room"]).arg(self.0.path());
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_a_build_which_goes_on_when_there_is_room() {
    let lab = Lab::with_small_stage3();
    let text = fs::read_to_string(lab.config().join("build.toml")).unwrap();
    lab.write("build.toml", &text.replace("space = 1", "space = 0"));
    let packed = fs::metadata(lab.dir.path().join("small.tar.xz")).unwrap().len() as usize;
    let room = Room(tempfile::tempdir().unwrap());
    room.mount("", packed + (200 << 10));
    std::os::unix::fs::symlink(room.0.path(), lab.local()).unwrap();
    let said = lab.fails(&[INSIDE]);
    assert!(
        said.contains("No space left on device") && said.contains("stopped at gextr"),
        "{said}"
    );
    assert!(!lab.tree("").exists());
    room.mount("remount,", 32 << 20);
    let said = lab.builds(&[INSIDE]);
    assert!(said.contains("gprec: done already") && lab.tree("bin/busybox").exists(), "{said}");
    // What did not fit is gone.
    assert!(!lab.tree("").with_extension("new").exists());
}

#[test]
fn two_builds_do_not_share_a_folder() {
    let lab = lab();
    script(&lab, "second", "cd \"$GSE_LOCAL/..\" && ! $NESTED");
    let nested = lab.arguments(&["--lawful-good=all", "--auto=no"]).join(" ");
    let sdir = sdir(&lab);
    let output = lab
        .command(&[&sdir, "--do=second", "-g=-gparta", "--lawful-good=all", "--auto=no"])
        .env("NESTED", format!("{} {nested}", crate::support::GSE))
        .output()
        .unwrap();
    let said = crate::support::both(&output);
    assert!(output.status.success() && said.contains("another gse is building in"), "{said}");
}
