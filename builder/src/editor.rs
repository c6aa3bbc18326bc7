//! The person's editor, for files.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

/// What edits when nothing says otherwise: POSIX has it everywhere.
const EDITOR: &str = "vi";

/// Why a file was not edited.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not start.
    #[error("starting the editor {editor}: name another one in EDITOR")]
    Start {
        /// As it was named.
        editor: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with something else than success.
    #[error("the editor {editor} ended with {status}: nothing was taken over")]
    Failed {
        /// As it was named.
        editor: String,
        /// How it ended.
        status: ExitStatus,
    },
}

/// The words of `$VISUAL`, else of `$EDITOR`, else `vi`.
fn words(visual: Option<String>, editor: Option<String>) -> Vec<String> {
    let named = [visual, editor].into_iter().flatten().find(|text| !text.trim().is_empty());
    let words = named.and_then(|text| shlex::split(&text)).filter(|words| !words.is_empty());
    words.unwrap_or_else(|| vec![EDITOR.to_owned()])
}

/// Opens files in the editor, and waits for its end. Paths count from `folder`.
///
/// # Errors
/// If it does not start, or does not end with success.
pub fn edit(folder: &Path, files: &[PathBuf]) -> Result<(), Error> {
    let words = words(env::var("VISUAL").ok(), env::var("EDITOR").ok());
    let editor = words.join(" ");
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_else(|| EDITOR.to_owned());
    let status = Command::new(program).args(words).args(files).current_dir(folder).status();
    let status = status.map_err(|source| Error::Start { editor: editor.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Error::Failed { editor, status }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_editor_is_visual_then_editor_then_vi() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(words(some("code --wait"), some("nano")), ["code", "--wait"]);
        assert_eq!(words(None, some("nano")), ["nano"]);
        assert_eq!(words(some(" "), None), ["vi"]);
    }
}
