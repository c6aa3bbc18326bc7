//! The manual and the completions: the same as what the flags, hook points and configuration files say.
//! `GSE_BLESS=1 cargo test -p gse --test generated` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod roff;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap_complete::Shell;
use gse::cli;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

const PAGES: [&str; 4] = ["gse.1", "gse.5", "gse-config.5", "gse-controller.8"];
const SHELLS: [(Shell, &str); 3] =
    [(Shell::Bash, "gse.bash"), (Shell::Zsh, "_gse"), (Shell::Fish, "gse.fish")];

/// Compares a file that is checked in with what it should be, or writes it.
fn compare(path: &Path, expected: &[u8]) {
    if std::env::var_os("GSE_BLESS").is_some() {
        fs::write(path, expected).unwrap();
    }
    let found = fs::read(path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the flags and tables say: GSE_BLESS=1 cargo test -p gse --test generated",
        path.display()
    );
}

#[test]
fn the_manual_is_the_one_that_is_checked_in() {
    for page in PAGES {
        let source = fs::read_to_string(top().join("man").join(format!("{page}.in"))).unwrap();
        let text = roff::fill(&source);
        assert!(!text.contains("\n.@"), "{page}: something was not filled in");
        compare(&top().join("man").join(page), text.as_bytes());
    }
}

#[test]
fn the_completions_are_those_that_are_checked_in() {
    for (shell, file) in SHELLS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut cli::command(), "gse", &mut text);
        compare(&top().join("completions").join(file), &text);
    }
}

#[test]
fn the_manual_renders_without_a_warning() {
    for page in PAGES {
        let path = top().join("man").join(page);
        let lint =
            Command::new("mandoc").args(["-T", "lint", "-W", "style"]).arg(&path).output().unwrap();
        let said = String::from_utf8(lint.stdout).unwrap();
        assert!(lint.status.success() && said.is_empty(), "{said}");
    }
}

#[test]
fn the_completions_are_read_by_bash() {
    let file = top().join("completions/gse.bash");
    let script = format!(
        ". {}; COMP_WORDS=(gse --lawf); COMP_CWORD=1; _gse gse --lawf gse; echo \"${{COMPREPLY[*]}}\"",
        file.display()
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "--lawful-good\n", "{}", String::from_utf8_lossy(&output.stderr));
}
