//! Packages: installed by dpkg and by Portage, and looked at by pkgcheck.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::installed::Installed;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What `scripts/package` makes of an installation.
fn package(kind: &str, installed: &Installed, out: &Path) -> String {
    let mut command = Command::new(top().join("scripts/package"));
    run(command.arg(kind).arg(installed.path("")).arg(out).env("SOURCE_DATE_EPOCH", "1700000000"))
}

/// What a script of the project makes once, and prints.
fn fixture(script: &str) -> PathBuf {
    let output = Command::new(top().join("scripts").join(script)).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

#[test]
fn the_debian_package_installs_and_leaves_an_edited_configuration_alone() {
    let installed = Installed::new();
    let out = tempfile::tempdir().unwrap();
    let deb = package("deb", &installed, out.path());
    let lintian = ["--allow-root", "--fail-on", "error,warning", deb.trim()];
    assert_eq!(run(Command::new("lintian").args(lintian)), "");
    let root = out.path().join("root");
    fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let dpkg = |more: &[&str]| {
        // The root has nothing in it that the package could depend on.
        let mut command = Command::new("dpkg");
        command.arg("--root").arg(&root).args(["--force-depends", "--force-script-chrootless"]);
        run(command.args(more))
    };
    dpkg(&["--install", deb.trim()]);
    let gse =
        |flag: &str| said(&Command::new(root.join("usr/bin/gse")).arg(flag).output().unwrap());
    assert!(gse("-hc").contains("all as they were installed"), "{}", gse("-hc"));
    for file in ["usr/share/man/man8/gse-controller.8.gz", "usr/lib/systemd/system/gse.service"] {
        assert!(root.join(file).is_file(), "{file}");
    }
    let edited = root.join("usr/lib64/gse/config.d/sources.toml");
    fs::write(&edited, "keys = []\n").unwrap();
    dpkg(&["--force-confold", "--install", deb.trim()]);
    assert_eq!(fs::read_to_string(&edited).unwrap(), "keys = []\n");
    dpkg(&["--purge", "gse"]);
    assert!(!root.join("usr/bin/gse").exists());
}

/// Packages that the ebuild depends on, without anything in them.
const DEPENDENCIES: [&str; 7] = [
    "app-arch/tar",
    "app-arch/xz-utils",
    "app-crypt/gnupg",
    "app-shells/bash",
    "dev-util/ccache",
    "sys-apps/util-linux",
    "sys-devel/distcc",
];

/// The stand-in for Gentoo's repository, with those packages.
fn repository(into: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build/repository");
    run(Command::new("cp").arg("-r").arg(from).arg(into));
    let mut categories = fs::read_to_string(into.join("profiles/categories")).unwrap();
    for name in DEPENDENCIES {
        let (category, package) = name.split_once('/').unwrap();
        let folder = into.join(name);
        if !categories.lines().any(|line| line == category) {
            categories.push_str(&format!("{category}\n"));
        }
        if folder.exists() {
            continue;
        }
        fs::create_dir_all(&folder).unwrap();
        let text = "EAPI=8\nDESCRIPTION=\"Stands for the package\"\nSLOT=\"0\"\nKEYWORDS=\"amd64 ~amd64\"\n";
        fs::write(folder.join(format!("{package}-1.ebuild")), text).unwrap();
    }
    categories.push_str("app-admin\n");
    let mut sorted: Vec<&str> = categories.lines().collect();
    sorted.sort_unstable();
    sorted.dedup();
    fs::write(into.join("profiles/categories"), format!("{}\n", sorted.join("\n"))).unwrap();
    fs::write(into.join("licenses/GPL-3+"), "GPL-3+\n").unwrap();
    // The one function of Gentoo's systemd.eclass that the ebuild calls.
    let eclass = "systemd_dounit() { ( insopts -m 0644; insinto /usr/lib/systemd/system; doins \"$@\" ) || die; }\n";
    fs::create_dir_all(into.join("eclass")).unwrap();
    fs::write(into.join("eclass/systemd.eclass"), eclass).unwrap();
}

fn repos(gentoo: &str, gse: &str) -> String {
    format!(
        "[DEFAULT]\nmain-repo = gentoo\n[gentoo]\nlocation = {gentoo}\n[gse]\nlocation = {gse}\n"
    )
}

#[test]
fn pkgcheck_has_nothing_to_say_about_the_ebuild() {
    let installed = Installed::new();
    let out = tempfile::tempdir().unwrap();
    package("gentoo", &installed, out.path());
    let path = |path: &str| out.path().join(path);
    repository(&path("gentoo"));
    fs::create_dir_all(path("etc/portage")).unwrap();
    symlink(path("gentoo/profiles/default/linux/amd64/23.0"), path("etc/portage/make.profile"))
        .unwrap();
    let text = repos(path("gentoo").to_str().unwrap(), path("overlay").to_str().unwrap());
    fs::write(path("etc/portage/repos.conf"), text).unwrap();
    let scan = || {
        let output = Command::new(fixture("fixture-pkgcheck").join("bin/pkgcheck"))
            .args(["scan", "--repo"])
            .arg(path("overlay"))
            .env("PORTAGE_CONFIGROOT", out.path())
            .env("HOME", out.path())
            .output()
            .unwrap();
        said(&output)
    };
    assert_eq!(scan(), "");
    let ebuild = path("overlay/app-admin/gse/gse-0.1.0.ebuild");
    let text = fs::read_to_string(&ebuild).unwrap();
    fs::write(&ebuild, text.replace("app-crypt/gnupg", "app-crypt/nothing")).unwrap();
    assert!(scan().contains("app-crypt/nothing"), "{}", scan());
}

/// Runs a shell command in a tree, in namespaces of its own: nothing stays mounted or running, however it ends.
fn in_tree(tree: &Path, command: &str) -> String {
    let script = "mount -t proc proc \"$1/proc\" && mount --rbind /dev \"$1/dev\" && \
                  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root PORTAGE_OVERRIDE_EPREFIX= \
                  chroot \"$1\" /bin/bash -c \"$2\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", script, "sh"]);
    run(unshare.arg(tree).arg(command))
}

#[test]
fn the_ebuild_installs_by_emerge_with_its_services_and_flags() {
    let installed = Installed::new();
    let out = tempfile::tempdir().unwrap();
    package("gentoo", &installed, out.path());
    let stage3 = fixture("fixture-stage3").join("mirror/releases/amd64/autobuilds");
    let pointer = fs::read_to_string(stage3.join("latest-stage3-amd64-openrc.txt")).unwrap();
    let name =
        pointer.lines().find_map(|line| line.split(' ').next().filter(|n| n.ends_with(".tar.xz")));
    let tree = out.path().join("tree");
    fs::create_dir(&tree).unwrap();
    run(Command::new("tar").arg("-xf").arg(stage3.join(name.unwrap())).arg("-C").arg(&tree));
    let put = |path: &str, text: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    fs::create_dir_all(tree.join("var/db/repos")).unwrap();
    repository(&tree.join("var/db/repos/gentoo"));
    run(Command::new("cp")
        .arg("-r")
        .arg(out.path().join("overlay"))
        .arg(tree.join("var/db/repos/gse")));
    put("etc/portage/repos.conf", &repos("/var/db/repos/gentoo", "/var/db/repos/gse"));
    put(
        "etc/portage/make.conf",
        "ACCEPT_KEYWORDS=\"~amd64\"\nACCEPT_LICENSE=\"*\"\nUSE=\"distcc\"\n",
    );
    // What the stand-in has as Debian's packages; the USE flag's is left for emerge to find.
    let provided: Vec<String> = DEPENDENCIES
        .iter()
        .filter(|name| !name.ends_with("cache") && !name.ends_with("distcc"))
        .map(|name| format!("{name}-1\n"))
        .collect();
    put("etc/portage/profile/package.provided", &provided.concat());
    // Gentoo's tar is called so too.
    symlink("tar", tree.join("usr/bin/gtar")).unwrap();
    let archive = "gse-0.1.0-amd64.tar.xz";
    let distfiles = tree.join("var/cache/distfiles");
    fs::create_dir_all(&distfiles).unwrap();
    fs::copy(out.path().join(archive), distfiles.join(archive)).unwrap();

    let said = in_tree(&tree, "emerge --color=n --ask=n app-admin/gse");
    assert!(said.contains("sys-devel/distcc") && !said.contains("dev-util/ccache"), "{said}");
    let said = in_tree(&tree, "gse --health-check && gse --help && ls /var/db/pkg/app-admin");
    assert!(said.contains("all as they were installed") && said.contains("gse-0.1.0"), "{said}");
    for file in [
        "etc/init.d/gse",
        "etc/conf.d/gse",
        "usr/lib/systemd/system/gse.service",
        "usr/lib64/gse/gse-controller",
        "usr/share/bash-completion/completions/gse",
    ] {
        assert!(tree.join(file).is_file(), "{file}");
    }
    // OpenRC reads the service.
    in_tree(&tree, "rc-update add gse default && rc-update show default | grep -q gse");
    let said = in_tree(&tree, "emerge --color=n --ask=n --unmerge app-admin/gse");
    assert!(!tree.join("usr/bin/gse").exists(), "{said}");
}
