//! The main menu in a real terminal: tmux draws it, and tests read its screen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod tmux;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tmux::Tmux;

const GSE: &str = env!("CARGO_BIN_EXE_gse");

/// A directory with the default configuration, in which the menu runs.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.d");
    let status = Command::new("cp").arg("-r").arg(config).arg(dir.path()).status().unwrap();
    assert!(status.success());
    dir
}

fn program(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The main menu, with the last line, which is drawn last.
fn is_drawn(screen: &str) -> bool {
    screen.contains("> Build a system") && screen.contains("? help")
}

#[test]
fn the_menu_is_walked_searched_and_left_at_80_by_24() {
    let dir = place();
    let tmux = Tmux::start(dir.path(), &format!("{GSE}; echo left with $?; read end"), (80, 24));
    let screen = tmux.until(is_drawn);
    assert!(screen.contains("Quit") && screen.contains("host: "), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    tmux.keys(&["j", "Down"]);
    tmux.until(|screen| screen.contains("> Portage"));
    tmux.keys(&["Enter"]);
    tmux.until(|screen| {
        screen.contains("Main menu > Portage") && screen.contains("> system/portage/make.conf")
    });
    tmux.keys(&["q", "?"]);
    tmux.until(|screen| screen.contains("PgUp, PgDn"));
    // Right behind an escape, a key would be one with Alt.
    tmux.keys(&["Escape"]);
    tmux.until(|screen| !screen.contains("PgUp, PgDn"));
    tmux.keys(&["/", "a", "b", "o", "u", "t"]);
    tmux.until(|screen| screen.contains("/about_") && screen.contains("> About"));
    tmux.keys(&["Enter", "Enter"]);
    tmux.until(|screen| screen.contains("GNU General Public License"));
    tmux.keys(&["Escape"]);
    tmux.until(|screen| !screen.contains("GNU General Public License"));
    tmux.keys(&["q"]);
    tmux.until(|screen| screen.contains("left with 0"));
}

#[test]
fn a_choice_shows_its_command_line_and_runs_it_inside() {
    let dir = place();
    let tmux = Tmux::start(
        dir.path(),
        &format!("{GSE} -mm -nk --lawful-good=all --local=here"),
        (100, 30),
    );
    tmux.until(is_drawn);
    tmux.keys(&["Enter", "/", "p", "r", "e", "Enter", "Enter"]);
    tmux.until(|screen| {
        screen.contains("$ gse --base=precomp --no-kernel --lawful-good=all --local=here")
    });
    tmux.keys(&["Enter"]);
    let screen = tmux.until(|screen| screen.contains("done") || screen.contains("ended with"));
    assert!(
        screen.contains("gmark: passed, as --lawful-good says") && screen.contains("done"),
        "{screen}"
    );
    assert!(dir.path().join("here/precomp/state.toml").exists());
    tmux.keys(&["q"]);
    tmux.until(|screen| screen.contains("Initiate build"));
}

#[test]
fn a_build_that_runs_shows_its_step_and_is_stopped_after_a_question() {
    let dir = place();
    let scripts = dir.path().join("scripts");
    fs::create_dir(&scripts).unwrap();
    // It ends when somebody writes to the pipe, which nobody does.
    fs::write(scripts.join("wait"), "mkfifo pipe; echo waiting; read line <pipe\n").unwrap();
    let flags =
        "--sdir=scripts --do=wait -g=+gclean --lawful-good=all --enforce=gfund --local=here";
    let tmux = Tmux::start(dir.path(), &format!("{GSE} -mm {flags}"), (100, 30));
    tmux.until(is_drawn);
    tmux.keys(&["Enter", "/", "p", "r", "e", "Enter", "Enter", "Enter"]);
    tmux.until(|screen| screen.lines().any(|line| line == "waiting"));
    tmux.keys(&["q"]);
    tmux.until(|screen| screen.contains("stop what runs? y/n"));
    tmux.keys(&["y"]);
    tmux.until(|screen| screen.contains("stopped"));
    let state = fs::read_to_string(dir.path().join("here/precomp/state.toml")).unwrap();
    assert!(state.contains("running = \"+gclean:wait\""), "{state}");
}

#[test]
fn an_edited_file_is_checked_when_the_editor_ends() {
    let dir = place();
    let editor = program(dir.path(), "editor", "echo 'tris = 1' >>\"$1\"");
    let command = format!("EDITOR={} VISUAL= {GSE}", editor.display());
    let tmux = Tmux::start(dir.path(), &command, (100, 30));
    tmux.until(is_drawn);
    tmux.keys(&["/", "c", "a", "t", "e", "g", "Enter", "Enter"]);
    tmux.until(|screen| screen.contains("> Build "));
    tmux.keys(&["/", "m", "a", "c", "h", "i", "n", "e", "s", "Enter", "Enter"]);
    tmux.until(|screen| screen.contains("> controller/boot.toml"));
    tmux.keys(&["Enter"]);
    let screen = tmux.until(|screen| screen.contains("The file stays as you wrote it"));
    assert!(screen.contains("unknown field `tris`"), "{screen}");
}

#[test]
fn what_is_no_longer_needed_is_shown_and_removed_after_a_question() {
    let dir = place();
    fs::create_dir(dir.path().join("tree")).unwrap();
    let gse = |flags: &[&str]| {
        let output = Command::new(GSE).args(flags).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    gse(&["--keygen=key"]);
    for version in ["--version=1", "--version=2"] {
        gse(&["--archive=tree", version, "--dist=here", "--key=key"]);
    }
    gse(&["--withdraw=1", "--dist=here", "--key=key"]);
    let tmux = Tmux::start(dir.path(), &format!("{GSE} -mm --dist=here --key=key"), (100, 30));
    tmux.until(is_drawn);
    tmux.keys(&["/", "r", "e", "l", "e", "a", "s", "e", "s", "Enter", "Enter", "G"]);
    tmux.until(|screen| {
        screen.contains("$ gse --prune --dist=here --key=key && gse --prune --force --dist=here")
    });
    tmux.keys(&["Enter"]);
    let screen = tmux.until(|screen| screen.contains("is it to be done? y/n"));
    assert!(screen.contains("images/gse-1  withdrawn"), "{screen}");
    assert!(dir.path().join("here/images/gse-1").exists());
    tmux.keys(&["y"]);
    tmux.until(|screen| screen.contains("removed: ") && screen.lines().any(|line| line == "done"));
    assert!(!dir.path().join("here/images/gse-1").exists());
}

#[test]
fn the_manual_is_shown_from_the_program_itself() {
    let dir = place();
    // It shows the title of the page that it was given, until a key.
    program(dir.path(), "man", "test \"$1\" = -l && grep -h '^.TH' \"$2\"; read key");
    let command = format!("PATH={}:$PATH {GSE}", dir.path().display());
    let tmux = Tmux::start(dir.path(), &command, (80, 24));
    tmux.until(is_drawn);
    tmux.keys(&["/", "m", "a", "n", "u", "a", "l", "Enter", "Enter", "G"]);
    tmux.until(|screen| screen.contains("$ man 8 gse-controller"));
    tmux.keys(&["Enter"]);
    tmux.until(|screen| screen.contains(".TH GSE\\-CONTROLLER 8"));
    tmux.keys(&["Enter"]);
    tmux.until(|screen| screen.contains("> gse-controller(8)"));
}

#[test]
fn a_terminal_that_changes_its_size_is_drawn_again() {
    let dir = place();
    let tmux = Tmux::start(dir.path(), GSE, (80, 24));
    tmux.until(is_drawn);
    tmux.resize((40, 12));
    tmux.until(|screen| screen.contains("> Build a system") && screen.contains("? help"));
    tmux.keys(&["G"]);
    tmux.until(|screen| screen.contains("> Quit"));
}

#[test]
fn no_color_means_no_colours() {
    for (variable, coloured) in [("NO_COLOR=1", false), ("NO_COLOR=", true)] {
        let dir = place();
        let tmux = Tmux::start(dir.path(), &format!("{variable} {GSE}"), (80, 24));
        tmux.until(is_drawn);
        // SGR 36 is cyan (ECMA-48, 8.3.117); crossterm may write it as 38;5;6.
        let screen = tmux.coloured();
        assert_eq!(screen.contains("[36m") || screen.contains("38;5;6m"), coloured, "{screen:?}");
    }
}

#[test]
fn without_a_terminal_the_menu_is_a_list() {
    let dir = place();
    let output = Command::new(GSE).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    for line in [
        "  Build a system\n",
        "      Initiate build: gse --base=precomp\n",
        "List: gse --releases\n",
    ] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
}
