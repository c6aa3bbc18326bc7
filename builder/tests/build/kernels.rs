//! Kernels and initramfs, by each of those who make them.

use std::{fs, process::Command};

use gse_protocol::{Release, Sha256, sign::Keys};

use crate::support::{GSE, Lab, small_tree};

const PARTS: &str = "--enforce=gparth,gparti";

#[test]
fn kernels_and_initramfs_come_from_whom_the_configuration_names() {
    let lab = Lab::new();
    let url = lab.url().to_owned();
    lab.builds(&["--lawful-good=gportage,gapply-new,gparte,gpartf,gpartg,gpartj,gpartk"]);
    let read = |path: &str| fs::read_to_string(lab.tree(path)).unwrap();
    let without = "--lawful-good=gparta,gpartb,gpartc,gpartf,gpartg,gpartj,gpartk";

    // No kernel yet, and so no initramfs either.
    lab.configure(&[&url], "[initramfs]\nby = \"dracut\"\n");
    let said = lab.fails(&[without, PARTS]);
    assert!(said.contains("there is no kernel with modules in /"), "{said}");
    assert!(said.contains("stopped at ginitrd"), "{said}");

    // Sources, genkernel, and a configuration.
    let kernel = "[kernel]\npackage = \"sys-kernel/gentoo-sources\"\nby = \"genkernel\"\n";
    lab.configure(&[&url], &format!("{kernel}[initramfs]\nby = \"genkernel\"\n"));
    lab.write("kernel.config", "CONFIG_BTRFS_FS=y\n");
    lab.builds(&[without, "--enforce=gparte,gparth,gparti"]);
    assert_eq!(read("boot/vmlinuz-6.12.0-gentoo"), "kernel CONFIG_BTRFS_FS=y\n");
    assert_eq!(read("boot/initramfs-6.12.0-gentoo.img"), "made by genkernel\n");
    assert_eq!(read("etc/kernel/config.d/gse.config"), "CONFIG_BTRFS_FS=y\n");

    // dracut, for the same kernel.
    lab.configure(&[&url], "[initramfs]\nby = \"dracut\"\n");
    lab.builds(&[without, PARTS]);
    assert_eq!(read("boot/initramfs-6.12.0-gentoo.img"), "made by dracut\n");

    // Neither sources nor tools stay, and what was compiled among the sources goes with them.
    assert!(lab.tree("usr/src/linux-6.12.0-gentoo/vmlinux").exists());
    lab.builds(&[
        "--lawful-good=gparta,gpartb,gpartc,gparte,gpartf,gpartg",
        "--enforce=gpartj,gpartk",
    ]);
    for gone in ["usr/bin/genkernel", "usr/bin/dracut", "usr/src/linux-6.12.0-gentoo"] {
        assert!(!lab.tree(gone).exists(), "{gone}");
    }
    assert!(lab.tree("boot/vmlinuz-6.12.0-gentoo").exists());

    // The controller's has the controller's configuration in it: mistakes there are told before anything is done.
    lab.configure(&[&url], "[initramfs]\nby = \"controller\"\n");
    let said = lab.fails(&[without, PARTS]);
    assert!(said.contains("sources.toml: this file is missing"), "{said}");
    assert!(!said.contains("stopped at"), "{said}");
}

#[test]
fn a_kernel_and_an_initramfs_that_are_ready_win_over_the_configuration() {
    let lab = Lab::new();
    let url = lab.url().to_owned();
    lab.configure(
        &[&url],
        "[kernel]\npackage = \"sys-kernel/gentoo-kernel-bin\"\n[initramfs]\nby = \"controller\"\n",
    );
    let dir = lab.dir.path();
    small_tree(&dir.join("small"));
    fs::create_dir(dir.join("scripts")).unwrap();
    fs::write(dir.join("scripts/tree"), "cp -a \"$GSE_LOCAL/../small\" \"$GSE_TREE\"\n").unwrap();
    let file = |name: &str| {
        fs::write(dir.join(name), name).unwrap();
        dir.join(name).display().to_string()
    };
    let flags = [
        &format!("--sdir={}", dir.join("scripts").display()),
        "--do=tree",
        "-g=-gextr",
        "--lawful-good=gparta gpartc ginstall gpartj",
    ];
    let (kernel, initrd) =
        (format!("--kernel={}", file("vmlinuz-1")), format!("--initrd={}", file("initrd-1")));
    lab.builds(&[&flags[..], &[&kernel, &initrd]].concat());
    assert_eq!(fs::read_to_string(lab.tree("boot/vmlinuz-1")).unwrap(), "vmlinuz-1");
    assert_eq!(fs::read_to_string(lab.tree("boot/initrd-1")).unwrap(), "initrd-1");
    // None of these asks for one by whatever way.
    for without in ["-nk", "--build-minimal"] {
        fs::remove_dir_all(lab.tree("")).unwrap();
        let said = lab.builds(&[&flags[..], &["--force-new", without]].concat());
        for hook in ["gkernel", "ginitrd"] {
            assert!(said.contains(&format!("{hook}: not asked for")), "{without}: {said}");
        }
        assert!(!lab.tree("boot").exists(), "{without}");
    }
    fs::remove_dir_all(lab.tree("")).unwrap();
    let said = lab.builds(&[&flags[..], &["--force-new", "-ni", &kernel]].concat());
    assert!(said.contains("ginitrd: not asked for") && lab.tree("boot/vmlinuz-1").exists());
}

/// What machines get beside the system itself is the administrator's to start them with, and the release's to bring.
#[test]
fn a_kernel_with_the_controllers_initramfs_goes_with_the_release() {
    let lab = Lab::new();
    let url = lab.url().to_owned();
    lab.configure(&[&url], "[initramfs]\nby = \"controller\"\n");
    let dir = lab.dir.path();
    small_tree(&dir.join("small"));
    fs::create_dir(dir.join("scripts")).unwrap();
    let tree =
        "cp -a \"$GSE_LOCAL/../small\" \"$GSE_TREE\"; mkdir -p \"$GSE_TREE/lib/modules/6.12.0\"\n";
    fs::write(dir.join("scripts/tree"), tree).unwrap();
    let file = |name: &str| {
        fs::write(dir.join(name), name).unwrap();
        dir.join(name).display().to_string()
    };
    let option = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
    let (key, dist) = (option("key", "gse.key"), option("dist", "dist.d"));
    let keygen = Command::new(GSE).arg(option("keygen", "gse.key")).output().unwrap();
    assert!(keygen.status.success());
    let sdir = option("sdir", "scripts");
    let flags = [
        &sdir,
        "--do=tree",
        "-g=-gextr",
        &key,
        &dist,
        "--lawful-good=gparta gpartc ginstall gpartj",
    ];
    let release = || {
        let bytes = |name: &str| fs::read(dir.join("dist.d").join(name)).unwrap();
        let key = gse::keys::load_public(&dir.join("gse.key.pub")).unwrap();
        let signature = String::from_utf8(bytes("latest.toml.minisig")).unwrap();
        Release::open(&bytes("latest.toml"), &signature, &Keys(vec![key])).unwrap()
    };

    // Neither was made: there is a release all the same.
    let said = lab.builds(&[&flags[..], &["--version=1", "--lawful-good=gparth,gparti"]].concat());
    assert!(said.contains("parts H and I were left out"), "{said}");
    assert_eq!(release().kernel, None);

    let kernel = format!("--kernel={}", file("vmlinuz-6.12.0"));
    let initrd = format!("--initrd={}", file("mine.img"));
    lab.builds(
        &[&flags[..], &["--version=2", "--enforce=gparth,gparti,gmark", &kernel, &initrd]].concat(),
    );
    let brought = release().kernel.unwrap();
    for (what, file, name) in [
        (&brought.image, "vmlinuz-6.12.0", "vmlinuz"),
        (&brought.initramfs, "mine.img", "initramfs.img"),
    ] {
        assert_eq!(what.path, format!("images/gse-2/{name}"));
        assert_eq!(what.sha256, Sha256::of(file.as_bytes()));
        for place in [&format!("images/gse-2/{name}"), &format!("controller/6.12.0/{name}")] {
            assert_eq!(
                fs::read_to_string(dir.join("dist.d").join(place)).unwrap(),
                file,
                "{place}"
            );
        }
    }

    // What was made for this system has to be there still, as long as it is asked for.
    fs::remove_file(lab.tree("boot/vmlinuz-6.12.0")).unwrap();
    let again = ["--version=3", "--enforce=gmark"];
    let said = lab.fails(&[&flags[..], &again].concat());
    assert!(said.contains("--enforce=gparth,gparti makes them again"), "{said}");
    lab.builds(&[&flags[..], &again, &["-ni"]].concat());
    assert_eq!((release().serial.0, release().kernel), (3, None));
}
