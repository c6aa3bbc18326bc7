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

/// What a shell says to a script of its own language, in which `@` stands for the folder of the completions.
fn shell(words: &[&str], script: &str) -> String {
    let folder = top().join("completions").canonicalize().unwrap();
    let script = script.replace('@', folder.to_str().unwrap());
    // One that waits for what never comes is ended.
    let output = Command::new("timeout").arg("60").args(words).arg(script).output().unwrap();
    let mistakes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && mistakes.is_empty(), "{words:?}: {mistakes}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_completes_flags() {
    let script = "set -e; . @/gse.bash; COMP_WORDS=(gse --lawf); COMP_CWORD=1; _gse gse --lawf gse; echo \"${COMPREPLY[*]}\"";
    assert_eq!(shell(&["bash", "--norc", "-c"], script), "--lawful-good\n");
}

#[test]
fn fish_completes_flags_and_their_values() {
    let script = "source @/gse.fish; complete -C 'gse --lawf'; complete -C 'gse --base='";
    let said = shell(&["fish", "--no-config", "-c"], script);
    let words: Vec<_> = said.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(words, ["--lawful-good", "--base=catalyst", "--base=precomp"]);
}

/// zsh completes only where somebody types, so it is given a terminal.
#[test]
fn zsh_completes_flags() {
    let script = r#"
        zmodload zsh/zpty
        zpty inner "TERM=dumb zsh -f -i"
        zpty -w inner "PS1=; fpath=(@ \$fpath); autoload -Uz compinit; compinit -D -u; echo re''ady"
        zpty -r inner seen '*ready*'
        zpty -w -n inner $'gse --lawf\t'
        zpty -r inner seen '*--lawful-good*' && print completed
        zpty -d inner"#;
    assert_eq!(shell(&["zsh", "-f", "-c"], script), "completed\n");
}
