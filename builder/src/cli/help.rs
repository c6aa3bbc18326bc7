//! `--help`: an overview, or the flags of one topic.

use super::{Topic, command};

/// What a program that calls gse can tell from its end.
pub const EXIT_CODES: [(u8, &str); 5] = [
    (0, "what was asked for is done"),
    (1, "it failed; standard error says why"),
    (2, "the command line has a mistake, and nothing was done"),
    (3, "a check came to its end and found something: changed files of gse itself"),
    (130, "a build was interrupted by Ctrl-C, 143 by a signal to end; the same command goes on"),
];

const OVERVIEW: &str = "\
gse builds, signs and publishes the systems and controllers of GSE labs.

  gse                                  the main menu
  gse --base=precomp                   build a system
  gse --build-controller               build the controller's initramfs
  gse --publish-config                 check, sign and publish the configuration of machines
  gse --serve                          serve what is published
  gse --releases                       what is published

Flags by topic, gse --help=TOPIC:
";

/// The text for a topic, or the overview.
pub fn help(topic: Option<Topic>) -> String {
    let Some(topic) = topic else { return overview() };
    let command = command().mut_args(|arg| {
        let other = topic != Topic::All && Topic::of(arg.get_id().as_str()) != topic;
        if other { arg.hide(true) } else { arg }
    });
    let text = command.override_usage("gse FLAGS").term_width(100).render_long_help().to_string();
    let more = match topic {
        Topic::General | Topic::All => "",
        _ => {
            "\nFlags that many commands have, such as --dist, --key and --json: gse --help=general\n"
        }
    };
    format!("{}\n{}{more}", text.trim_end(), shorts(topic))
}

fn overview() -> String {
    let mut text = OVERVIEW.to_owned();
    for topic in Topic::each() {
        text.push_str(&format!("  {:<13} {}\n", topic.word(), topic.heading()));
    }
    text.push_str("  all           all of them\n\nExit codes:\n");
    for (code, meaning) in EXIT_CODES {
        text.push_str(&format!("  {code:<3}  {meaning}\n"));
    }
    text.push_str("\nSee also: man 1 gse, man 5 gse, man 5 gse-config, man 8 gse-controller\n");
    text
}

/// Short flags that clap does not know.
fn shorts(topic: Topic) -> String {
    let of_topic = |long: &str| {
        let field = long.trim_start_matches('-').replace('-', "_");
        topic == Topic::All || Topic::of(&field) == topic
    };
    let lines: Vec<_> = super::SHORT
        .iter()
        .filter(|(_, long)| of_topic(long))
        .map(|(short, long)| format!("  {short:<5} {long}\n"))
        .collect();
    if lines.is_empty() { String::new() } else { format!("\nShort forms:\n{}", lines.concat()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_shows_its_flags_alone() {
        let text = help(Some(Topic::Build));
        assert!(text.contains("--lawful-good") && text.contains("-nk   --no-kernel"), "{text}");
        assert!(!text.contains("--keygen") && !text.contains("--inside"), "{text}");
        let all = help(Some(Topic::All));
        assert!(Topic::each().all(|topic| all.contains(topic.heading())), "{all}");
    }

    #[test]
    fn the_overview_names_every_topic_and_exit_code() {
        let text = help(None);
        assert!(Topic::each().all(|topic| text.contains(topic.heading())), "{text}");
        assert!(EXIT_CODES.iter().all(|(_, meaning)| text.contains(meaning)), "{text}");
    }
}
