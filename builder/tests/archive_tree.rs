//! The comparer that tests of images and installations rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod archive_support;

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use archive_support::run;
use gse_tests::tree;

/// A change to one thing of a nasty tree, and the path at which it has to show.
type Change = (&'static str, &'static [u8]);

const CHANGES: &[Change] = &[
    ("printf x >new", b"new"),
    ("rm dev/pipe", b"dev/pipe"),
    ("chmod u-s bin/su", b"bin/su"),
    ("chmod 755 tmp", b"tmp"),
    ("chown 1 owners/user", b"owners/user"),
    ("chgrp 1 owners/user", b"owners/user"),
    ("touch -hd @1.000000001 links/dangling", b"links/dangling"),
    ("touch -d @1700000000 times/nanosecond", b"times/nanosecond"),
    ("ln -sfn other links/relative", b"links/relative"),
    ("truncate -s 2 sizes/1", b"sizes/1"),
    ("printf y >sizes/1", b"sizes/1"),
    ("setfattr -n user.text -v other xattrs/file", b"xattrs/file"),
    ("setfattr -x security.capability bin/ping", b"bin/ping"),
    ("setfattr -h -x trusted.link xattrs/link", b"xattrs/link"),
    ("setfacl -m u:1000:r acls/file", b"acls/file"),
    ("setfacl -k acls", b"acls"),
    ("cp links/third t; mv t links/third", b"links/third"),
    ("cp --sparse=never sparse/end t; mv t sparse/end", b"sparse/end"),
    ("printf x | dd of=sparse/hole bs=1 seek=1000000 conv=notrunc status=none", b"sparse/hole"),
    ("rm dev/null; mknod dev/null c 1 5", b"dev/null"),
];

#[test]
fn every_kind_of_change_shows_in_the_description() {
    let directory = tempfile::tempdir().unwrap();
    tree::nasty_tree(directory.path()).unwrap();
    let mut before = tree::describe(directory.path()).unwrap();
    for (command, path) in CHANGES {
        run(Command::new("sh").args(["-ec", command]).current_dir(directory.path()));
        let after = tree::describe(directory.path()).unwrap();
        assert_ne!(before.get(*path), after.get(*path), "{command}");
        assert!(!tree::differences(&before, &after).is_empty(), "{command}");
        before = after;
    }
}

#[test]
fn the_nasty_tree_is_the_same_each_time() {
    let make = || {
        let directory = tempfile::tempdir().unwrap();
        tree::nasty_tree(directory.path()).unwrap();
        let mut described = tree::describe(directory.path()).unwrap();
        // Of what was not given a time of its own, it is now.
        for line in described.values_mut() {
            *line = line.split(' ').filter(|w| !w.starts_with("mtime=")).collect();
        }
        described
    };
    assert_eq!(tree::differences(&make(), &make()), Vec::<String>::new());
}

#[test]
fn zeros_and_small_holes_are_the_same_content() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (directory.path().join("one"), directory.path().join("other"));
    let make = |path: &Path, hole: bool| {
        fs::create_dir(path).unwrap();
        let bytes = vec![0; if hole { 0 } else { 100_000 }];
        fs::write(path.join("file"), bytes).unwrap();
        File::options().write(true).open(path.join("file")).unwrap().set_len(100_000).unwrap();
        run(Command::new("touch").arg("-d@1").arg(path.join("file")).arg(path));
        tree::describe(path).unwrap()
    };
    assert_eq!(make(&one, true), make(&other, false));
}
