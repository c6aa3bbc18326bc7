//! The page that keeps the results: what people wrote stays, what lies between two marks is replaced.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result};

/// The text of the page.
#[derive(Debug)]
pub(crate) struct Page(String);

impl Page {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path);
        Ok(Self(text.with_context(|| format!("reading {}", path.display()))?))
    }

    /// Puts `text` between the marks of this name.
    pub(crate) fn replace(&mut self, name: &str, text: &str) -> Result<()> {
        let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
        let missing = || format!("the page has no marks {:?} and {end:?}", begin.trim_end());
        let (before, rest) = self.0.split_once(&begin).with_context(missing)?;
        let (_, after) = rest.split_once(&end).with_context(missing)?;
        self.0 = format!("{before}{begin}\n{}\n\n{end}{after}", text.trim());
        Ok(())
    }

    /// Writes the page, whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let writing = || format!("writing {}", path.display());
        let parent = path.parent().with_context(writing)?;
        let mut file = tempfile::NamedTempFile::new_in(parent).with_context(writing)?;
        file.write_all(self.0.as_bytes()).with_context(writing)?;
        let mode = fs::metadata(path).with_context(writing)?.permissions();
        file.as_file().set_permissions(mode).with_context(writing)?;
        file.persist(path).with_context(writing)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let mut page = Page("Words.\n<!-- begin a -->\nold\n<!-- end a -->\nMore.\n".to_owned());
        page.replace("a", "new\n").unwrap();
        let once = page.0.clone();
        assert_eq!(once, "Words.\n<!-- begin a -->\n\nnew\n\n<!-- end a -->\nMore.\n");
        page.replace("a", "new\n").unwrap();
        assert_eq!(page.0, once);
        assert!(page.replace("b", "").unwrap_err().to_string().contains("begin b"));
    }
}
