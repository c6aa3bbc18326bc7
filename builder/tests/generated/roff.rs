//! Fills the lines `.@NAME` of a manual page's source with what the program knows.

use std::{fs, path::Path};

use clap_mangen::Man;
use gse::{
    build::hook::{Hook, Place},
    cli::{self, EXIT_CODES, SHORT, Topic},
};

/// The page for its source.
pub(crate) fn fill(source: &str) -> String {
    let line = |line: &str| match line.strip_prefix(".@") {
        Some("FLAGS") => flags(),
        Some("SHORT") => table(SHORT.iter().map(|(short, long)| (*short, (*long).to_owned()))),
        Some("EXIT") => {
            EXIT_CODES.iter().map(|(code, what)| item(&code.to_string(), what)).collect()
        }
        Some("HOOKS") => hooks(),
        Some("CONFIG") => configuration(),
        Some("PROFILE") => profiles(),
        Some(other) => panic!("nothing is called .@{other}"),
        None => format!("{line}\n"),
    };
    let source = source.replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    tidy(&source.lines().map(line).collect::<String>())
}

/// In the input, lines have at most 80 columns, and there is one request where clap_mangen writes three.
fn tidy(text: &str) -> String {
    // clap_mangen writes an empty line between two breaks.
    let text = text.replace(".br\n\n.br\n", ".sp\n");
    let mut out = String::new();
    let mut literal = false;
    for line in text.lines() {
        literal = (literal || line == ".nf") && line != ".fi";
        let is_text = !line.starts_with('.');
        out.push_str(&if is_text { wrap(line, literal) } else { line.to_owned() });
        out.push('\n');
    }
    out
}

/// Breaks a line at spaces. Where lines stay as they are, the output line goes on all the same.
fn wrap(line: &str, literal: bool) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in line.split_inclusive(' ') {
        if column > 0 && column + word.len() > 76 {
            out.truncate(if literal { out.len() } else { out.trim_end().len() });
            out.push_str(if literal { "\\c\n" } else { "\n" });
            column = 0;
            // A quote or a dot at the beginning of a line would be a request.
            if word.starts_with(['.', '\'']) {
                out.push_str("\\&");
            }
        }
        out.push_str(word);
        column += word.len();
    }
    out
}

/// Text that is no request, with what roff would take for something else spelled out.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn item(name: &str, text: &str) -> String {
    format!(".TP\n\\fB{}\\fR\n{}\n", escape(name), escape(text))
}

fn table<'a>(rows: impl Iterator<Item = (&'a str, String)>) -> String {
    rows.map(|(name, text)| item(name, &text)).collect()
}

/// The flags of each topic, as clap_mangen describes them.
fn flags() -> String {
    let mut text = String::new();
    for topic in Topic::each() {
        let mut command = cli::command().mut_args(|arg| {
            let other = Topic::of(arg.get_id().as_str()) != topic;
            let arg = arg.help_heading(None::<&str>);
            if other { arg.hide(true) } else { arg }
        });
        command.build();
        let mut section = Vec::new();
        Man::new(command).render_options_section(&mut section).unwrap();
        let section = String::from_utf8(section).unwrap();
        // Its own heading is the topic's here.
        let body: Vec<&str> = section.lines().filter(|line| !line.starts_with(".SH")).collect();
        text.push_str(&format!(".SS {}\n{}\n", escape(topic.heading()), body.join("\n")));
    }
    text
}

fn hooks() -> String {
    let mut text = String::new();
    for hook in Hook::all() {
        let place = match hook.place() {
            Some(Place::Host) => " Outside, on this machine.",
            Some(Place::Chroot) => " Inside the new system.",
            None => "",
        };
        let part = hook.part().map(|part| format!(" (in {})", part.name())).unwrap_or_default();
        text.push_str(&item(
            &format!("{}{part}", hook.name()),
            &format!("{}.{place}", hook.does()),
        ));
    }
    text
}

/// The GSE profiles: their USE flags and packages, by the comments above them.
fn profiles() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.d/system/gse/profiles");
    let mut text = String::new();
    for name in ["parent-gse", "child-gse"] {
        let read = |file: &str| fs::read_to_string(folder.join(name).join(file)).unwrap();
        let flags = read("make.defaults").replace("${USE} ", "").replace("USE=", "");
        text.push_str(&paragraphs(&format!("USE flags of {name}"), &flags.replace('"', "")));
        text.push_str(&paragraphs(&format!("Packages of {name}"), &read("packages")));
    }
    text
}

/// Lines in groups, each under the last comment above it.
fn paragraphs(what: &str, content: &str) -> String {
    let mut text = format!(".SS {}\n", escape(what));
    // The first one is about the whole file.
    for group in content.split("\n\n").skip(1) {
        let (comments, lines): (Vec<&str>, Vec<&str>) =
            group.lines().filter(|line| !line.is_empty()).partition(|line| line.starts_with('#'));
        if !lines.is_empty() {
            let comment = comments.join(" ").replace("# ", "");
            // What follows a colon is why.
            let title = comment.split(':').next().unwrap_or_default();
            text.push_str(&item(
                title.trim_end_matches('.'),
                &lines.join(", ").replace(' ', ", ").replace(",,", ","),
            ));
        }
    }
    text
}

/// Every file of the default configuration, as it explains itself.
fn configuration() -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.d");
    let mut waiting = vec![top.clone()];
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files.sort();
    let mut text = String::new();
    for file in files {
        let name = file.strip_prefix(&top).unwrap().to_str().unwrap();
        let content = fs::read_to_string(&file).unwrap();
        text.push_str(&format!(".SS {}\n.nf\n", escape(name)));
        for line in content.lines() {
            // An empty line in the source would end the example.
            let line = if line.is_empty() { "\\&".to_owned() } else { escape(line) };
            text.push_str(&format!("{line}\n"));
        }
        text.push_str(".fi\n");
    }
    text
}
