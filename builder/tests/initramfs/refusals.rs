//! What cannot become an image, and what the administrator is told.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::lab::{KEY, Lab, archives, stock_kernel, top, unpack};
use gse::initramfs::{Options, build};

/// Builds what must not be built; the error, which has each of these in it, and leaves nothing behind.
fn refused(lab: &Lab, options: &Options, words: &[&str]) {
    let error = build(options).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
    assert!(!lab.path("dist.d").exists(), "something was written");
}

#[test]
fn a_missing_module_directory_is_named_with_those_that_exist() {
    let lab = Lab::new();
    let options = lab.options(Path::new("/nonexistent/6.1.0"), &[]);
    refused(&lab, &options, &["/nonexistent/6.1.0", "/lib/modules has"]);
    let options = lab.options(Path::new("6.99.0-none"), &[]);
    refused(&lab, &options, &["no module directory /lib/modules/6.99.0-none"]);
}

#[test]
fn a_module_directory_without_an_index_is_told_to_be_indexed() {
    let lab = Lab::new();
    let home = lab.path("lib/modules/6.1.0-own");
    fs::create_dir_all(&home).unwrap();
    refused(&lab, &lab.options(&home, &[]), &["modules.dep", "depmod -a 6.1.0-own"]);
}

#[test]
fn an_unknown_driver_is_an_error_with_the_nearest_names() {
    let lab = Lab::new();
    let kernel = stock_kernel("cloud");
    refused(
        &lab,
        &lab.options(&kernel, &["virtoi_net"]),
        &["\"virtoi_net\"", "did you mean virtio_net"],
    );
    refused(&lab, &lab.options(&kernel, &["disk", "nett"]), &["\"nett\"", "did you mean net"]);
}

#[test]
fn a_kernel_that_cannot_read_zstd_is_refused() {
    let lab = Lab::new();
    let home = lab.small_kernel(&[("virtio_net", None)]);
    fs::write(home.join("config"), "CONFIG_BLK_DEV_INITRD=y\n# CONFIG_RD_ZSTD is not set\n")
        .unwrap();
    refused(&lab, &lab.options(&home, &["net"]), &["CONFIG_RD_ZSTD=y"]);
}

#[test]
fn secret_keys_never_go_in() {
    let kernel = stock_kernel("cloud");
    for (file, text) in [
        (
            "controller/system/files/gse.key",
            "untrusted comment: minisign encrypted secret key\nRWRTY0IyAAAAAA==\n",
        ),
        (
            "controller/system/files/etc/ssh/ssh_host_ed25519_key",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n",
        ),
        (
            "controller/tls.pem",
            "-----BEGIN CERTIFICATE-----\nAA\n-----BEGIN PRIVATE KEY-----\nAA\n",
        ),
    ] {
        let lab = Lab::new();
        lab.configure(file, text);
        refused(&lab, &lab.options(&kernel, &["virtio"]), &[file, " key", "keep it elsewhere"]);
    }
    // What machines do not receive is none of the image's business.
    let lab = Lab::new();
    lab.configure("system/gse.key", "RWRTY0IyAAAAAA==\n");
    let image = build(&lab.options(&kernel, &["virtio"])).unwrap().path;
    let parts = archives(&fs::read(image).unwrap());
    assert!(!parts.iter().any(|a| a.windows(8).any(|w| w == b"RWRTY0Iy")));
}

#[test]
fn a_configuration_without_keys_is_told_where_they_go() {
    let lab = Lab::new();
    fs::copy(top().join("config.d/sources.toml"), lab.path("config.d/sources.toml")).unwrap();
    refused(&lab, &lab.options(&stock_kernel("cloud"), &[]), &["no key in `keys`", "gse --keygen"]);
}

#[test]
fn every_mistake_in_the_configuration_is_shown() {
    let lab = Lab::new();
    lab.configure("controller/boot.toml", "[update]\npolcy = \"auto\"\n");
    lab.configure("controller/network.toml", "\ndhcp_timeout = \"soon\"\n");
    lab.configure("controller/drive.toml", "");
    let options = lab.options(&stock_kernel("cloud"), &[]);
    let words = [
        "controller/boot.toml:2",
        "did you mean `policy`?",
        "controller/network.toml:2",
        "controller/drive.toml: no machine reads",
        "did you mean `controller/drives.toml`?",
    ];
    refused(&lab, &options, &words);

    let mut options = lab.options(&stock_kernel("cloud"), &[]);
    options.config = Some(PathBuf::from("/nonexistent/config.d"));
    refused(&lab, &options, &["/nonexistent/config.d", "--config"]);
}

#[test]
fn only_a_static_program_can_be_init() {
    let lab = Lab::new();
    let mut options = lab.options(&stock_kernel("cloud"), &[]);
    for (file, words) in [
        ("/bin/ls", &["/bin/ls cannot be /init", "not a static program", "ld-linux"][..]),
        ("/etc/passwd", &["/etc/passwd cannot be /init", "no 64-bit ELF"]),
        ("/nonexistent", &["no controller at /nonexistent", "$GSE_CONTROLLER"]),
    ] {
        options.controller = PathBuf::from(file);
        refused(&lab, &options, words);
    }
}

#[test]
fn an_https_server_brings_the_hosts_certificates_unless_the_configuration_has_its_own() {
    let kernel = stock_kernel("cloud");
    let servers = format!("servers = [\"https://gse.example/\"]\nkeys = [\"{KEY}\"]\n");
    let host = Path::new("etc/ssl/certs/ca-certificates.crt");
    for (more, theirs) in [("", true), ("tls_roots = \"roots.pem\"\n", false)] {
        let lab = Lab::new();
        lab.configure("sources.toml", &format!("{servers}{more}"));
        lab.configure("roots.pem", "-----BEGIN CERTIFICATE-----\n");
        let tree = lab.path("tree");
        unpack(&build(&lab.options(&kernel, &["virtio"])).unwrap().path, &tree);
        assert_eq!(tree.join(host).exists(), theirs);
        assert_eq!(tree.join("config.d/roots.pem").exists(), !theirs);
    }
}
