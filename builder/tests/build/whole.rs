//! A whole build.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use gse::build::hook::{Hook, Place};

use crate::support::Lab;

/// Of its `build.toml`.
pub(crate) const MORE: &str = "[packages]\neix = true\n[kernel]\npackage = \"sys-kernel/gentoo-kernel-bin\"\n[portage]\nprofile = \"default/linux/amd64/23.0/desktop\"\n[locale]\nlang = \"de_DE.utf8\"\n\
                [clean]\nshare = [\"games\"]\n";

/// A configuration with something in every part.
pub(crate) fn configure(lab: &Lab) {
    let url = lab.url().to_owned();
    lab.configure(&[&url], MORE);
    lab.write("portage/make.conf", "USE=\"lab\"\n");
    lab.write("portage/package.use/lab", "app-misc/lab-tools extra\n");
    lab.write("packages", "app-misc/lab-tools # for the course\n");
    lab.write("runlevels", "rsync del default\nlocal add boot\nlocal add default\n");
    lab.write("locale.gen", "de_DE.UTF-8 UTF-8\n");
    lab.write("timezone", "Europe/Berlin\n");
    lab.write("ssh.pub", "ssh-ed25519 AAAA teacher\n");
    lab.write("files/etc/motd", "welcome\n");
    lab.write("inject.d/course/one", "1\n");
    lab.write(
        "inject",
        "cp inject.d/course /usr/share/course\nrsync inject.d/course/one /srv/one\n",
    );
}

pub(crate) fn inside(lab: &Lab, words: &[&str]) -> String {
    let output = Command::new("chroot").arg(lab.tree("")).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_system_is_built_from_the_latest_stage3() {
    let lab = Lab::new();
    configure(&lab);
    let said = lab.builds_beside_a_read_only_host(&["--quiet"]);
    let expected = [
        "Checking this machine",
        "Looking for the latest stage3",
        "Fetching the portage snapshot",
        "Fetching the stage3",
        "Extracting tarball",
        "Part B: preparing to enter the new system",
        "Updating Portage",
        "Configuring Portage",
        "Applying new USE flags",
        "Writing configuration files",
        "Installing packages",
        "Setting runlevels",
        "Installing the kernel",
        "Part J: removing packages that are no longer required",
        "Cleaning up",
    ];
    assert_eq!(said.lines().take(expected.len()).collect::<Vec<_>>(), expected, "one line a step");

    let read = |path: &str| fs::read_to_string(lab.tree(path)).unwrap();
    // The profile, and a USE flag of it, of make.conf and of package.use.
    let profile = fs::read_link(lab.tree("etc/portage/make.profile")).unwrap();
    assert!(profile.ends_with("profiles/default/linux/amd64/23.0/desktop"));
    assert_eq!(inside(&lab, &["lab-tools"]), "extra: yes\n");
    assert_eq!(read("var/lib/portage/world"), "app-misc/lab-tools\nsys-kernel/gentoo-kernel-bin\n");
    assert!(lab.tree("boot/vmlinuz-6.12.0-gentoo-dist").exists());
    // What only builds needed is gone, and what is needed at run time is not.
    let installed = inside(&lab, &["sh", "-c", "cd /var/db/pkg && ls -d */*"]);
    assert!(installed.contains("app-misc/lab-library-1.0"), "{installed}");
    assert!(!installed.contains("lab-maker") && !installed.contains("eix"), "{installed}");
    // Files, with what belongs to them.
    assert!(inside(&lab, &["locale", "-a"]).contains("de_DE.utf8"));
    assert!(read("etc/env.d/02locale").contains("de_DE.utf8"));
    let localtime = fs::read_link(lab.tree("etc/localtime")).unwrap();
    assert_eq!(localtime, Path::new("../usr/share/zoneinfo/Europe/Berlin"));
    assert_eq!(read("etc/motd"), "welcome\n");
    assert_eq!(read("root/.ssh/authorized_keys"), "ssh-ed25519 AAAA teacher\n");
    let mode = fs::metadata(lab.tree("root/.ssh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(
        (read("usr/share/course/one"), read("srv/one")),
        ("1\n".to_owned(), "1\n".to_owned())
    );
    // Runlevels, as OpenRC sees them.
    let runlevels = inside(&lab, &["rc-update", "show", "boot", "default"]);
    assert!(!runlevels.contains("rsync"), "{runlevels}");
    assert!(lab.tree("etc/runlevels/boot/local").is_symlink(), "{runlevels}");
    // Nothing of the build or of this machine is left.
    assert_eq!(read("etc/resolv.conf"), "");
    for empty in ["var/cache/distfiles", "var/tmp", "tmp"] {
        assert_eq!(fs::read_dir(lab.tree(empty)).unwrap().count(), 0, "{empty}");
    }
    assert!(!lab.tree("run/gse").exists());

    // The logs have what --quiet does not show.
    assert!(lab.log("ginstall").contains("Emerging (1 of 3)"));
    assert!(lab.log("gpartj").contains("+ emerge --ask=n --oneshot @preserved-rebuild\n"));
    let whole = lab.log("build");
    assert!(whole.contains(">>> Installing packages\n") && whole.contains("Emerging (1 of 3)"));
    assert!(lab.state().contains("finished = true"));

    each_hook_point_again(&lab);
}

/// In a finished system, by force: each hook point inside is done, and nothing else but the checks. And what
/// is left out is not done, by whatever force.
fn each_hook_point_again(lab: &Lab) {
    lab.write("runlevels", "local del boot\n");
    let hooks = Hook::all().filter(|h| h.place() == Some(Place::Chroot) && *h != Hook::Initrd);
    for hook in hooks {
        let enforce = format!("--enforce={hook}");
        let said = lab.builds(&[&enforce[..], "--quiet"]);
        let steps: Vec<_> = said.lines().filter(|l| Hook::all().any(|h| h.does() == *l)).collect();
        assert_eq!(steps, [Hook::Fundamentals, hook].map(Hook::does), "{hook}");
        let said = lab.builds(&[&enforce[..], &format!("--lawful-good={hook}")]);
        assert!(said.contains(&format!("{hook}: passed, as --lawful-good says")), "{hook}: {said}");
        if hook == Hook::Runlevels {
            assert!(!lab.tree("etc/runlevels/boot/local").is_symlink());
        }
    }
}

#[test]
fn the_ebuild_repository_can_come_by_emerge_sync() {
    let lab = Lab::new();
    let url = lab.url().to_owned();
    lab.configure(&[&url], "[packages]\neix = true\n[portage]\nsync = \"emerge\"\n");
    // rsync's own server, for as long as this process lives.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build/repository");
    let daemon = lab.dir.path().join("rsyncd.conf");
    let text = format!("use chroot = no\n[gentoo]\npath = {}\n", repository.display());
    fs::write(&daemon, text).unwrap();
    std::thread::spawn(move || {
        // As inetd would: one server for each connection.
        for stream in listener.incoming().map_while(Result::ok) {
            let input = std::os::fd::OwnedFd::from(stream.try_clone().unwrap());
            let mut server = Command::new("rsync")
                .arg("--daemon")
                .arg(format!("--config={}", daemon.display()))
                .stdin(input)
                .stdout(std::os::fd::OwnedFd::from(stream))
                .spawn()
                .unwrap();
            server.wait().unwrap();
        }
    });
    lab.write(
        "portage/repos.conf/gentoo.conf",
        &format!(
            "[gentoo]\nlocation = /var/db/repos/gentoo\nsync-type = rsync\nsync-uri = rsync://127.0.0.1:{port}/gentoo\n\
             sync-rsync-verify-metamanifest = no\nauto-sync = yes\n"
        ),
    );
    let said =
        lab.builds(&["--lawful-good=gportage,gapply-new,gparte,gpartf,gpartg,gpartj,gpartk"]);
    assert!(said.contains("gsnap: not asked for"), "{said}");
    assert!(!lab.local().join("downloads/gentoo-latest.tar.xz").exists());
    assert!(lab.tree("var/db/repos/gentoo/app-misc/robust/robust-1.0.ebuild").exists());
    assert!(lab.tree("usr/bin/eix-update").exists());
}
