//! What makes compilation quicker, and what packages bring beside files that are there.

use std::{fs, net::TcpListener};

use crate::support::Lab;

#[test]
fn packages_are_compiled_by_distcc_and_ccache_and_their_new_configuration_is_merged() {
    let lab = Lab::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("127.0.0.1:{}/2", listener.local_addr().unwrap().port());
    let url = lab.url().to_owned();
    let hosts = |host: &str| format!("[distcc]\nhosts = [\"{host}\"]\n[ccache]\nsize = \"5G\"\n");

    // Before anything is built.
    lab.configure(&[&url], &hosts("127.0.0.1:1"));
    let said = lab.fails(&["--distcc=on"]);
    assert!(said.contains("no host to compile on, 127.0.0.1:1 ("), "{said}");
    assert!(said.contains("stopped at gfund"), "{said}");

    lab.configure(&[&url], &hosts(&host));
    lab.write("packages", "app-misc/compiled\napp-misc/configured\n");
    lab.write("files/etc/configured/ours.conf", "key = ours\n");
    lab.write("inject.d/configured/comments.conf", "# old words\nkey = 1\n");
    lab.write("inject.d/configured/other.conf", "key = old\n");
    lab.write("inject", "cp inject.d/configured /etc/configured\n");
    let output = lab.build(&["--distcc=pump", "--ccache=yes", "--quiet"]);
    drop(listener);
    let said = crate::support::both(&output);
    assert!(output.status.success(), "{said}");

    let compilers = fs::read_to_string(lab.tree("usr/share/compiled/compilers")).unwrap();
    let expected = format!("ccache in /run/gse/ccache, at most 5G\ndistcc on {host},cpp,lzo\n");
    assert_eq!(compilers, expected);
    assert!(lab.local().join("ccache/object").exists(), "kept for the next build");
    assert!(lab.log("ginstall").contains("pump: starting the include server"));
    for gone in ["usr/bin/ccache", "usr/bin/distcc", "run/gse"] {
        assert!(!lab.tree(gone).exists(), "{gone}");
    }

    // Comments differ; the configuration has said what is to be there; of the third nobody has.
    let read = |name: &str| fs::read_to_string(lab.tree("etc/configured").join(name));
    assert_eq!(read("comments.conf").unwrap(), "# new words\nkey  = 1\n");
    assert_eq!(read("ours.conf").unwrap(), "key = ours\n");
    assert_eq!(read("other.conf").unwrap(), "key = old\n");
    assert_eq!(read("._cfg0000_other.conf").unwrap(), "key = new\n");
    assert!(read("._cfg0000_ours.conf").is_err() && read("._cfg0000_comments.conf").is_err());
    assert!(said.contains("packages bring other versions of these files"), "{said}");
    assert!(said.contains("\n  /etc/configured/other.conf\n"), "{said}");

    // Somebody decides.
    let (said, success) = lab.typed(&["--quiet", "--enforce=ginstall"], &["later"]);
    assert!(success && said.contains("lies beside it"), "{said}");
    let (said, success) = lab.typed(&["--quiet", "--enforce=ginstall"], &["new"]);
    assert!(success, "{said}");
    assert_eq!(read("other.conf").unwrap(), "key = new\n");
    assert!(read("._cfg0000_other.conf").is_err());
}
