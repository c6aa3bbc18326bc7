//! `kill -9`, and then the same command again.

use std::{fs, process::Command};

use gse::build::hook::Hook;

use crate::{
    support::{CTRL_C, GSE, Lab, both},
    whole,
};

#[test]
fn a_build_that_is_killed_in_each_hook_point_goes_on_there() {
    let lab = Lab::new();
    whole::configure(&lab);
    let url = lab.url().to_owned();
    let more = whole::MORE.replace("[portage]\n", "[portage]\nrebuild = true\n");
    lab.configure(&[&url], &format!("{more}[initramfs]\nby = \"dracut\"\n"));
    let path = |name: &str| lab.dir.path().join(name).display().to_string();
    let keygen = Command::new(GSE).arg(format!("--keygen={}", path("gse.key"))).output();
    assert!(keygen.unwrap().status.success());
    let (key, dist) = (format!("--key={}", path("gse.key")), format!("--dist={}", path("dist.d")));
    let flags = ["--quiet", "--version=1", &key, &dist];
    // That of catalyst is in tests of its own.
    let hooks = Hook::all().filter(|hook| hook.place().is_some() && *hook != Hook::Catalyst);
    let mut caught = 0;
    for hook in hooks {
        if lab.has_done(hook) {
            // The kill came a moment late, when this one was over.
            continue;
        }
        let mut seen = Vec::new();
        let killed = lab.killed(&flags, |_, line| {
            seen.push(line.to_owned());
            line == hook.does()
        });
        assert!(killed, "{hook}: {seen:?}");
        caught += usize::from(!lab.has_done(hook));
        // The checks come each time, then what the last kill interrupted; what was done before is not done again.
        let steps = seen.iter().filter(|line| Hook::all().any(|h| h.does() == **line)).count();
        assert!(steps <= 3, "{hook}: {seen:?}");
    }
    assert!(caught >= 8, "only {caught} were killed before they were over");
    lab.builds(&flags);
    assert!(lab.state().contains("finished = true"));
    assert!(lab.tree("usr/bin/lab-tools").exists() && lab.tree("usr/share/course/one").exists());
    assert!(lab.tree("boot/initramfs-6.12.0-gentoo-dist.img").exists());
    let verify = Command::new(GSE)
        .args([
            format!("--verify={}/latest.toml", path("dist.d")),
            format!("--pub={}", path("gse.key.pub")),
        ])
        .output()
        .unwrap();
    assert!(verify.status.success(), "{}", both(&verify));
}

#[test]
fn a_build_that_is_killed_anywhere_comes_to_its_end() {
    let lab = Lab::new();
    whole::configure(&lab);
    // Lines of emerge's output among them: after 1, 2, 4, 8 … of them, the last time after none at all.
    let kills = (0..).take_while(|n| lab.killed(&[], |line, _| line + 1 == 1 << n)).count();
    assert!(kills >= 4, "{kills}");
    assert!(lab.state().contains("finished = true"));
    assert!(lab.tree("usr/bin/lab-tools").exists() && lab.tree("usr/share/course/one").exists());
}

#[test]
fn a_build_that_is_asked_to_end_ends_whole_and_says_how_to_go_on() {
    let lab = Lab::new();
    let scripts = lab.dir.path().join("scripts");
    fs::create_dir(&scripts).unwrap();
    // A process that does not end by itself, in the build's namespace.
    fs::write(scripts.join("waits"), "trap '' INT TERM HUP; echo waiting; sleep infinity\n")
        .unwrap();
    let sdir = format!("--sdir={}", scripts.display());
    let flags = ["--lawful-good=all", &sdir, "--do=waits", "-g=-gextr"];
    for (signal, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let (status, said) = lab.signalled(&flags, signal, "waiting");
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(said.contains("interrupted; the same command goes on"), "{said}");
        assert!(lab.state().contains("running = \"-gextr:waits\""));
    }
    fs::write(scripts.join("waits"), "true\n").unwrap();
    lab.builds(&flags);

    // The same at a terminal, while somebody is asked.
    fs::write(scripts.join("waits"), "false\n").unwrap();
    lab.fails(&[&flags[..], &["--force-new"]].concat());
    let (said, success) = lab.typed(&flags, &[&CTRL_C.to_string()]);
    assert!(!success && said.contains("interrupted; the same command goes on"), "{said}");
}
