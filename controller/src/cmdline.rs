//! The kernel command line.

/// The words of a kernel command line, with their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CmdLine(Vec<(String, Option<String>)>);

impl CmdLine {
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
mod tests {
    use super::CmdLine;

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
