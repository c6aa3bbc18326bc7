//! From the arguments to [`Cli`].

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind, parser::ValueSource};

use super::{
    Cli, Topic,
    mistakes::{explained, mistake},
    written_out,
};

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Something to do.
    Run(Box<Cli>),
    /// `--help`, with a topic or without.
    Help(Option<Topic>),
    /// Which gse this is.
    Version,
}

/// The command line, as clap knows it, with each flag under its topic.
pub fn command() -> clap::Command {
    let usage = "gse FLAGS; gse --help lists them by topic";
    Cli::command().override_usage(usage).mut_args(|arg| {
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
    if let [_, only] = args.as_slice()
        && (only == "--version" || only == "-V")
    {
        return Ok(Asked::Version);
    }
    let parsed = command().try_get_matches_from(&args).and_then(|matches| {
        let acts = matches.contains_id("action");
        let cli = Cli::from_arg_matches(&matches)?;
        check_alone(&matches, &cli)?;
        if acts || cli.states.is_alone() { Ok(cli) } else { Err(nothing_to_do(&cli)) }
    });
    parsed.map(|cli| Asked::Run(Box::new(cli))).map_err(|error| explained(error, &args))
}

fn nothing_to_do(cli: &Cli) -> clap::Error {
    if cli.states.time_state.is_some() {
        let text = "--time-state=NAME saves a run, so it stands beside the flags of one, such as --base=precomp; \
                    --time-state? lists what is saved";
        return mistake(ErrorKind::MissingRequiredArgument, text);
    }
    let text = "nothing is asked for: name what to do, such as --base, --archive, --releases, or -mm for the menu; \
                gse --help lists the topics";
    mistake(ErrorKind::MissingRequiredArgument, text)
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
        format!("there is no help about {word:?}{meant}: topics are {}, all", topics.join(", "));
    mistake(ErrorKind::InvalidValue, &text)
}

/// A saved run has its own flags; where it is saved may be said.
fn check_alone(matches: &clap::ArgMatches, cli: &Cli) -> Result<(), clap::Error> {
    const BESIDE: [&str; 3] = ["time_warp", "local", "action"];
    let given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let ids: Vec<&str> = matches.ids().map(clap::Id::as_str).filter(given).collect();
    if cli.states.time_warp.is_none() || ids.iter().all(|id| BESIDE.contains(id)) {
        return Ok(());
    }
    let text = "--time-warp has to be the only flag, beside --local: a saved run has its own; --edit changes its configuration";
    Err(mistake(ErrorKind::ArgumentConflict, text))
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
            "--base=catalyst",
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
            "--distcc=on",
            "--distcc=pump",
            "--ccache=on",
            "--ccache=yes",
            "--ccache=no",
            "--verbose",
            "-v",
            "--quiet",
            "-q",
            "--time-state=name",
        ];
        for flag in build {
            let base = if flag.contains("-b") && flag.contains('=') {
                None
            } else {
                Some("--base=precomp")
            };
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
    fn the_version_is_told_when_nothing_else_is_asked_for() {
        assert!(matches!(ask(&["--version"]), Ok(Asked::Version)));
        assert!(matches!(ask(&["-V"]), Ok(Asked::Version)));
        assert_eq!(cli(&["--base=precomp", "--version", "1"]).version.as_deref(), Some("1"));
    }

    #[test]
    fn mistakes_are_told_in_the_words_of_these_flags() {
        for (args, expected) in [
            (&["build"][..], "a word without a flag is a script of --hook"),
            (&["-fnn"], "did you mean -fn (--fetch-new)?"),
            (&["--time-warp=1", "-v"], "--time-warp has to be the only flag"),
            (&["--ccache=on"], "nothing is asked for"),
            (&["--time-state=x"], "stands beside the flags of one"),
        ] {
            let error = ask(args).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(expected), "{error}");
        }
        let error = ask(&["-x"]).unwrap_err().to_string();
        assert!(!error.contains("-- -x") && error.contains("gse --help"), "{error}");
        assert!(cli(&["--time-warp=1", "--local=there"]).states.time_warp.is_some());
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
