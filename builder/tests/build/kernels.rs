//! Kernels and initramfs, by each of those who make them.

use std::fs;

use crate::support::{Lab, small_tree};

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
