//! The arguments of a saved run, with the copies in the place of what they name.

use std::path::PathBuf;

/// Copies to read instead of what the arguments name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The configuration.
    pub config: Option<PathBuf>,
    /// The directory of scripts.
    pub scripts: Option<PathBuf>,
}

/// Flags that name the configuration by an optional value.
const WITH_CONFIG: [&str; 2] = ["--publish-config", "--check-config"];

/// Arguments, written out, without any of these flags and their values.
pub(super) fn without(arguments: &[String], flags: &[&str]) -> Vec<String> {
    let mut left = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let name = argument.split_once('=').map_or(argument.as_str(), |(name, _)| name);
        if !flags.contains(&name) {
            left.push(argument.clone());
        } else if !argument.contains('=') {
            // Its value is the next one.
            rest.next();
        }
    }
    left
}

/// The arguments with which a state is run: those that name what was copied name the copies. `version` stands in for that of
/// `--version`.
pub fn rewritten(arguments: &[String], inputs: &Inputs, version: Option<&str>) -> Vec<String> {
    let mut replaced = vec!["--time-state"];
    replaced.extend(inputs.config.as_ref().map(|_| "--config"));
    replaced.extend(inputs.scripts.as_ref().map(|_| "--sdir"));
    replaced.extend(version.map(|_| "--version"));
    let mut all = without(arguments, &replaced);
    if let Some(config) = &inputs.config {
        let name = |argument: &String| {
            WITH_CONFIG.iter().find(|flag| argument.split('=').next() == Some(flag)).copied()
        };
        for argument in &mut all {
            if let Some(flag) = name(argument) {
                *argument = format!("{flag}={}", config.display());
            }
        }
        all.push(format!("--config={}", config.display()));
    }
    if let Some(scripts) = &inputs.scripts {
        all.push(format!("--sdir={}", scripts.display()));
    }
    all.extend(version.map(|version| format!("--version={version}")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn copies_stand_in_for_what_the_arguments_name() {
        let given =
            "--base precomp --config here --time-state=one --sdir=/a --do=x -g=-gparta --version=1";
        let inputs =
            Inputs { config: Some("/s/config.d".into()), scripts: Some("/s/scripts".into()) };
        assert_eq!(
            rewritten(&words(given), &inputs, Some("1+2")),
            words(
                "--base precomp --do=x -g=-gparta --config=/s/config.d --sdir=/s/scripts --version=1+2"
            )
        );
        let given = words("--publish-config --key=k");
        assert_eq!(
            rewritten(&given, &Inputs { scripts: None, ..inputs }, None),
            words("--publish-config=/s/config.d --key=k --config=/s/config.d")
        );
        assert_eq!(rewritten(&given, &Inputs::default(), None), given);
    }
}
