//! From the arguments to [`Cli`].

use std::ffi::OsString;

use clap::{
    CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Cli, Topic, short::meant, written_out};

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Something to do.
    Run(Box<Cli>),
    /// `--help`, with a topic or without.
    Help(Option<Topic>),
}

/// The command line, as clap knows it, with each flag under its topic.
pub fn command() -> clap::Command {
    Cli::command().mut_args(|arg| {
        let heading = Topic::of(arg.get_id().as_str()).heading();
        arg.help_heading(heading)
    })
}

/// Reads the arguments, the program's name first. None at all ask for the main menu.
///
/// # Errors
/// The mistakes in them, which know how to show themselves.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Asked, clap::Error> {
    let mut args: Vec<OsString> = written_out(args).collect();
    if args.len() < 2 {
        args = vec!["gse".into(), "--menu".into()];
    }
    // Before the rest is looked at: who asks for help may have something wrong there.
    if let Some(topic) = help_asked(&args) {
        return Ok(Asked::Help(topic?));
    }
    let parsed = command().try_get_matches_from(args).and_then(|matches| {
        let acts = matches.contains_id("action");
        let cli = Cli::from_arg_matches(&matches)?;
        if acts || cli.states.is_alone() { Ok(cli) } else { Err(nothing_to_do()) }
    });
    parsed.map(|cli| Asked::Run(Box::new(cli))).map_err(with_short_flags)
}

fn nothing_to_do() -> clap::Error {
    let text = "nothing is asked for: name what to do, such as --base, --archive, --releases, or -mm for the menu; \
                gse --help lists the topics\n";
    clap::Error::raw(ErrorKind::MissingRequiredArgument, text)
}

/// The topic, if any of the arguments is for help.
fn help_asked(args: &[OsString]) -> Option<Result<Option<Topic>, clap::Error>> {
    let mut words = args.iter().filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--");
    let topic = loop {
        match words.next()? {
            "-h" | "--help" => break words.next().filter(|next| !next.starts_with('-')),
            other => match other.strip_prefix("--help=") {
                Some(topic) => break Some(topic),
                None => continue,
            },
        }
    };
    let Some(word) = topic else { return Some(Ok(None)) };
    let found = <Topic as clap::ValueEnum>::from_str(word, true);
    Some(found.map(Some).map_err(|_| unknown_topic(word)))
}

fn unknown_topic(word: &str) -> clap::Error {
    let topics: Vec<String> = Topic::each().map(Topic::word).collect();
    let near = topics.iter().find(|topic| strsim::damerau_levenshtein(topic, word) <= 2);
    let meant = near.map(|topic| format!(" (did you mean {topic}?)")).unwrap_or_default();
    let text =
        format!("there is no help about {word:?}{meant}: topics are {}, all\n", topics.join(", "));
    clap::Error::raw(ErrorKind::InvalidValue, text)
}

/// Clap names the first letter of an unknown cluster; people know whole ones.
fn with_short_flags(error: clap::Error) -> clap::Error {
    let written = std::env::args().find_map(|arg| Some((meant(&arg)?, arg)));
    let of_cluster = |arg: &str| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(letter)) => arg.starts_with(letter.as_str()),
        _ => false,
    };
    match (error.kind(), written) {
        (ErrorKind::UnknownArgument, Some((flag, arg))) if of_cluster(&arg) => clap::Error::raw(
            ErrorKind::UnknownArgument,
            format!("there is no flag {arg}: did you mean {flag}? gse --help lists the topics\n"),
        ),
        _ => error,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn ask(args: &[&str]) -> Result<Asked, clap::Error> {
        read(["gse"].iter().chain(args).map(OsString::from))
    }

    fn cli(args: &[&str]) -> Box<Cli> {
        match ask(args) {
            Ok(Asked::Run(cli)) => cli,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn no_two_flags_are_in_each_others_way() {
        command().debug_assert();
    }

    #[test]
    fn without_flags_and_with_mm_there_is_the_menu_which_takes_other_flags_along() {
        assert!(cli(&[]).menu);
        let cli = cli(&["-mm", "--verbose", "-nk"]);
        assert!(cli.menu && cli.verbose && cli.no_kernel);
    }

    #[test]
    fn every_flag_of_the_original_is_understood_as_it_is_spelled_there() {
        let build = [
            "--base=precomp",
            "-b=precomp",
            "-fn",
            "--fetch-new",
            "--force-new",
            "--keep",
            "-k",
            "--lawful-good=gparta",
            "--enforce=gkernel,ginitrd",
            "--kernel=a",
            "--initrd=a",
            "--initramfs=a",
            "--no-kernel",
            "-nk",
            "--no-initramfs",
            "-ni",
            "--build-minimal",
            "-bm",
            "--auto=yes",
            "--auto=no",
            "--verbose",
            "-v",
            "--quiet",
            "-q",
            "--time-state=name",
        ];
        for flag in build {
            let base = if flag.contains("precomp") { None } else { Some("--base=precomp") };
            let args: Vec<&str> = base.into_iter().chain([flag]).collect();
            assert!(cli(&args).base.is_some(), "{flag}");
        }
        let scripts = ["--base=precomp", "--sdir=d", "--do=a,b c", "-g=-gparta,+gprec"];
        assert_eq!(cli(&scripts).around.as_deref(), Some("-gparta,+gprec"));
        assert!(cli(&["--time-state?"]).states.time_state.is_some());
        assert!(cli(&["--time-state=-2"]).states.time_state.is_some());
        assert_eq!(cli(&["--time-warp=2"]).states.time_warp.as_deref(), Some("2"));
        for flag in ["--build-controller", "-bc", "-bc=/lib/modules/1", "--build-controller=/x"] {
            assert!(cli(&[flag]).build_controller.is_some(), "{flag}");
        }
        let controller =
            ["-bc", "--force", "--cmdline=a=b c", "--net=n", "--modules=m", "--dracut_opt=-a x"];
        assert_eq!(cli(&controller).image.cmdline.as_deref(), Some("a=b c"));
        assert!(cli(&["-hc"]).installation.health_check && cli(&["-rpn"]).installation.replace_new);
    }

    #[test]
    fn values_may_stand_apart_as_with_gnu_programs() {
        let cli = cli(&["--base", "precomp", "--local", "here", "--enforce", "gkernel"]);
        assert!(cli.base.is_some() && cli.local == std::path::Path::new("here"));
    }

    #[test]
    fn help_has_topics_and_does_not_mind_what_else_is_there() {
        for (args, expected) in [
            (&["--help"][..], None),
            (&["-h", "--nonsense"], None),
            (&["--base=x", "--help", "build"], Some(Topic::Build)),
            (&["--help=releases"], Some(Topic::Releases)),
        ] {
            assert!(matches!(ask(args), Ok(Asked::Help(topic)) if topic == expected), "{args:?}");
        }
        let error = ask(&["--help=release"]).unwrap_err().to_string();
        assert!(error.contains("did you mean releases?"), "{error}");
    }

    #[test]
    fn a_mistyped_flag_is_told_with_the_nearest_one() {
        let error = ask(&["--base=precomp", "--enforc=gkernel"]).unwrap_err().to_string();
        assert!(error.contains("--enforce"), "{error}");
        let error = ask(&["--base=precmp"]).unwrap_err().to_string();
        assert!(error.contains("precomp"), "{error}");
    }
}
