//! The kernel command line.

use std::{fs, path::Path};

/// Options that are baked into an image: dracut's place for them (dracut.cmdline(7)), in the own image too.
const BAKED_IN: &str = "etc/cmdline.d";

/// The words of a kernel command line, with their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CmdLine(Vec<(String, Option<String>)>);

impl CmdLine {
    /// The options that are baked into the image at `root`, and those of the kernel command line, from `proc`.
    /// The latter win: a baked-in option counts where the kernel command line has none of its name.
    pub fn read(root: &Path, proc: &Path) -> Self {
        let kernel = Self::parse(&fs::read_to_string(proc.join("cmdline")).unwrap_or_default());
        // What is not there, or cannot be read, has no options.
        let entries = fs::read_dir(root.join(BAKED_IN)).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
            .collect();
        files.sort();
        let texts = files.iter().map(|file| fs::read_to_string(file).unwrap_or_default());
        kernel.or(Self::parse(&texts.collect::<Vec<_>>().join(" ")))
    }

    fn or(self, others: Self) -> Self {
        let missing = |(key, _): &(String, _)| !self.0.iter().any(|(own, _)| own == key);
        let mut words: Vec<_> = others.0.into_iter().filter(missing).collect();
        words.extend(self.0);
        Self(words)
    }

    /// Reads the text of `/proc/cmdline`. Words may be quoted, as the kernel does:
    /// <https://docs.kernel.org/admin-guide/kernel-parameters.html>.
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in text.chars().chain([' ']) {
            match c {
                '"' => quoted = !quoted,
                c if c.is_whitespace() && !quoted => {
                    if !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                }
                c => word.push(c),
            }
        }
        if !word.trim().is_empty() {
            words.push(word.trim().to_owned());
        }
        Self(
            words
                .into_iter()
                .map(|word| match word.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (word, None),
                })
                .collect(),
        )
    }

    /// All words in order, with their values.
    pub fn words(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// The last value given for `key`: `KEY=VALUE`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(k, _)| k == key).and_then(|(_, v)| v.as_deref())
    }

    /// Each value given for `key`, in order.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).filter_map(|(_, v)| v.as_deref())
    }

    /// Whether the word is there: alone, or with a value that is not `0`, `no` or `off`.
    pub fn flag(&self, key: &str) -> bool {
        let found = self.0.iter().rev().find(|(k, _)| k == key);
        found.is_some_and(|(_, v)| !matches!(v.as_deref(), Some("0" | "no" | "off")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::CmdLine;

    #[test]
    fn what_is_baked_in_counts_where_the_kernel_command_line_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let baked = dir.path().join("etc/cmdline.d");
        fs::write(dir.path().join("cmdline"), "quiet ip=10.0.0.7::::pc7::off gse.debug=0\n")
            .unwrap();
        let read = || CmdLine::read(dir.path(), dir.path());
        assert_eq!(read().words().count(), 3);
        fs::create_dir_all(&baked).unwrap();
        fs::write(baked.join("20-gse.conf"), "ip=dhcp ip=eth1:dhcp\ngse.server=http://b/\n")
            .unwrap();
        fs::write(baked.join("10-lab.conf"), "gse.server=http://a/ gse.debug").unwrap();
        fs::write(baked.join("notes.txt"), "rd.break").unwrap();
        let line = read();
        assert_eq!(line.values("ip").collect::<Vec<_>>(), ["10.0.0.7::::pc7::off"]);
        assert_eq!(line.values("gse.server").collect::<Vec<_>>(), ["http://a/", "http://b/"]);
        assert!(!line.flag("gse.debug") && line.flag("quiet") && !line.flag("rd.break"));
    }

    #[test]
    fn words_have_values_and_quotes() {
        let line =
            CmdLine::parse("quiet ip=dhcp ip=:::::eth1:dhcp gse.note=\"two words\" gse.debug=0\n");
        assert_eq!(line.value("ip"), Some(":::::eth1:dhcp"));
        assert_eq!(line.values("ip").collect::<Vec<_>>(), ["dhcp", ":::::eth1:dhcp"]);
        assert_eq!(line.value("gse.note"), Some("two words"));
        assert!(line.flag("quiet"));
        assert!(!line.flag("gse.debug"));
        assert!(!line.flag("ro"));
        assert_eq!(line.value("quiet"), None);
        assert_eq!(line.words().next(), Some(("quiet", None)));
        assert_eq!(line.words().last(), Some(("gse.debug", Some("0"))));
    }

    #[test]
    fn an_open_quote_runs_to_the_end() {
        assert_eq!(CmdLine::parse("a=\"b c").value("a"), Some("b c"));
    }
}
