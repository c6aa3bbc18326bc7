//! What has to be known of a release before the build of its system begins.

use super::{
    Error, Options, Publish,
    ask::{Asker, Choice},
};
use crate::{archive, keys::SecretKey, password};

/// What is known before hours of work, for what comes after them.
pub(super) struct ReadyRelease<'a> {
    /// As what.
    pub(super) publish: &'a Publish,
    /// What signs.
    pub(super) key: SecretKey,
    /// Whether machines take it next.
    pub(super) latest: bool,
}

impl<'a> ReadyRelease<'a> {
    /// Looks whether the version is free, reads the key, and asks what no flag says.
    pub(super) fn ask(options: &Options, publish: &'a Publish) -> Result<Self, Error> {
        const CHOICES: [Choice; 2] = [
            Choice { word: "yes", meaning: "machines take it at their next start" },
            Choice { word: "no", meaning: "it only lies ready" },
        ];
        archive::check_new(&publish.dist, &publish.name, &publish.version)?;
        let key = SecretKey::load(&publish.key, password::ask)?;
        let latest = publish.latest.unwrap_or_else(|| {
            let question = format!(
                "When it is built, make {} {} the default system of all machines?",
                publish.name, publish.version
            );
            Asker::new(options.questions).choose(&question, &CHOICES) != Some("no")
        });
        Ok(Self { publish, key, latest })
    }
}
