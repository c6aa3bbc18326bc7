//! Spec files, as catalyst 4 reads them: `key: value`, values on further lines, `%(key)s` for one that came before
//! (`SpecParser` in <https://gitweb.gentoo.org/proj/catalyst.git/tree/catalyst/config.py>).
//!
//! What is known only when a build begins stands in them as a word between `@`, as in those of Gentoo's release engineers.

use std::collections::BTreeMap;

use gse_protocol::config::{Error as Mistake, near};

/// The folder of the files, in `config.d`.
const FOLDER: &str = "system/catalyst/";
/// The seed: a stage3 of the mirrors, fetched and verified.
pub const SEED: &str = "@SEED@";
/// The commit of the ebuild repository.
const TREEISH: &str = "@TREEISH@";
/// When the build began.
const TIMESTAMP: &str = "@TIMESTAMP@";
/// `config.d/system`
const REPO_DIR: &str = "@REPO_DIR@";

/// What a spec makes, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Target {
    Stage1,
    Stage2,
    Stage3,
    Stage4,
}

/// Of each spec (`StageBase.required_values` in `catalyst/base/stagebase.py`), but for `snapshot_treeish`,
/// which the build fills in.
const REQUIRED: [&str; 6] =
    ["profile", "rel_type", "source_subpath", "subarch", "target", "version_stamp"];
/// Which catalyst fills in from `-s`, and the build from catalyst.
const SNAPSHOT: &str = "snapshot_treeish";
/// Of any spec (`StageBase.valid_values`).
const KNOWN: [&str; 23] = [
    "asflags",
    "binrepo_path",
    "catalyst_use",
    "cbuild",
    "cflags",
    "common_flags",
    "compression_mode",
    "cxxflags",
    "decompressor_search_order",
    "fcflags",
    "fflags",
    "hostuse",
    "install_mask",
    "interpreter",
    "keep_repos",
    "kerncache_path",
    "ldflags",
    "pkgcache_path",
    "portage_confdir",
    "portage_prefix",
    "rename_regexp",
    "repos",
    SNAPSHOT,
];
/// Those of `catalyst/targets/stage1.py` and so on.
const OF_STAGE1: [&str; 3] = ["chost", "update_seed", "update_seed_command"];
const OF_STAGE4: [&str; 15] = [
    "boot/kernel",
    "stage4/empty",
    "stage4/fsscript",
    "stage4/gk_mainargs",
    "stage4/groups",
    "stage4/linuxrc",
    "stage4/packages",
    "stage4/rcadd",
    "stage4/rcdel",
    "stage4/rm",
    "stage4/root_overlay",
    "stage4/ssh_public_keys",
    "stage4/unmerge",
    "stage4/use",
    "stage4/users",
];
/// Followed by the name of a kernel and what is said of it.
const OF_KERNELS: &str = "boot/kernel/";

impl Target {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 4] = [Self::Stage1, Self::Stage2, Self::Stage3, Self::Stage4];

    /// As `target:` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stage1 => "stage1",
            Self::Stage2 => "stage2",
            Self::Stage3 => "stage3",
            Self::Stage4 => "stage4",
        }
    }

    /// The name of its file.
    pub fn file(self) -> String {
        format!("{}.spec", self.name())
    }

    fn required(self) -> impl Iterator<Item = &'static str> {
        let more = if self == Self::Stage4 { &["stage4/packages"][..] } else { &[] };
        REQUIRED.iter().chain(more).copied()
    }

    fn keys(self) -> impl Iterator<Item = &'static str> {
        let more = match self {
            Self::Stage1 => &OF_STAGE1[..],
            Self::Stage4 => &OF_STAGE4[..],
            Self::Stage2 | Self::Stage3 => &[],
        };
        REQUIRED.iter().chain(&KNOWN).chain(more).copied()
    }

    fn knows(self, key: &str) -> bool {
        self.keys().any(|known| known == key) || self == Self::Stage4 && key.starts_with(OF_KERNELS)
    }
}

/// What stands for the words between `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// See [`TREEISH`].
    pub treeish: String,
    /// See [`TIMESTAMP`].
    pub timestamp: String,
    /// See [`SEED`]; below `builds` in catalyst's store.
    pub seed: String,
    /// See [`REPO_DIR`].
    pub folder: String,
}

/// A spec that catalyst would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What it makes.
    pub target: Target,
    /// The file, as it is.
    text: String,
    values: BTreeMap<String, Vec<String>>,
}

impl Spec {
    /// Reads the file of a target.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn parse(target: Target, text: &str) -> Result<Self, Mistake> {
        let file = format!("{FOLDER}{}", target.file());
        let (values, lines) = parse(&file, text)?;
        let spec = Self { target, text: text.to_owned(), values };
        let wrong = |key: &str, message: String| {
            let line = lines.get(key).copied().unwrap_or_default();
            Mistake { line, ..Mistake::new(&file, message) }
        };
        if let Some(key) = spec.values.keys().find(|key| !target.knows(key)) {
            let mut mistake = wrong(
                key,
                format!(
                    "catalyst knows no {key:?} for {}; it takes every line with a colon in it for a key",
                    target.name()
                ),
            );
            mistake.suggestion = near(key, target.keys()).map(str::to_owned);
            return Err(mistake);
        }
        for key in target.required() {
            if !spec.values.contains_key(key) {
                return Err(wrong(key, format!("{key} is missing")));
            }
        }
        for key in REQUIRED {
            if spec.one(key).is_none() {
                return Err(wrong(key, format!("{key} has to be one word")));
            }
        }
        if spec.one("target") != Some(target.name()) {
            return Err(wrong("target", format!("target has to be {}", target.name())));
        }
        if spec.values.contains_key(SNAPSHOT) && spec.one(SNAPSHOT) != Some(TREEISH) {
            let message = format!(
                "{SNAPSHOT} has to be {TREEISH}: catalyst.treeish in build.toml says which one"
            );
            return Err(wrong(SNAPSHOT, message));
        }
        if spec.values.contains_key("rename_regexp") {
            let message = "rename_regexp would give the product another name than gse looks for";
            return Err(wrong("rename_regexp", message.to_owned()));
        }
        Ok(spec)
    }

    /// Checks that each spec takes what the one before it makes, in their order.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check_chain(specs: &[Self]) -> Result<(), Mistake> {
        for pair in specs.windows(2) {
            let [before, after] = pair else { continue };
            let (made, taken) = (before.subpath(), after.source());
            if made != taken {
                let file = format!("{FOLDER}{}", after.target.file());
                let message = format!(
                    "source_subpath is {taken:?}, but {} makes {made:?}",
                    before.target.file()
                );
                return Err(Mistake::new(&file, message).in_line_of(&after.text, "source_subpath"));
            }
        }
        Ok(())
    }

    /// Where its product is below `builds`, without its ending.
    pub fn subpath(&self) -> String {
        let value = |key| self.one(key).unwrap_or_default();
        format!(
            "{}/{}-{}-{}",
            value("rel_type"),
            self.target.name(),
            value("subarch"),
            value("version_stamp")
        )
    }

    /// What it is made from, below `builds`.
    pub fn source(&self) -> &str {
        self.one("source_subpath").unwrap_or_default()
    }

    /// The file as catalyst gets it.
    pub fn filled(&self, fill: &Fill) -> String {
        let mut text = self.text.clone();
        for (word, value) in [
            (TREEISH, &fill.treeish),
            (TIMESTAMP, &fill.timestamp),
            (SEED, &fill.seed),
            (REPO_DIR, &fill.folder),
        ] {
            text = text.replace(word, value);
        }
        if !self.values.contains_key(SNAPSHOT) {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&format!("{SNAPSHOT}: {}\n", fill.treeish));
        }
        text
    }

    /// The same with the words filled in.
    ///
    /// # Errors
    /// If something that is filled in cannot stand there.
    pub fn fill(&self, fill: &Fill) -> Result<Self, Mistake> {
        let file = format!("{FOLDER}{}", self.target.file());
        let text = self.filled(fill);
        let (values, _) = parse(&file, &text)?;
        Ok(Self { target: self.target, text, values })
    }

    /// The text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn one(&self, key: &str) -> Option<&str> {
        match self.values.get(key)?.as_slice() {
            [word] => Some(word),
            _ => None,
        }
    }
}

/// Words by their keys, and the line of each key.
type Parsed = (BTreeMap<String, Vec<String>>, BTreeMap<String, usize>);

fn parse(file: &str, text: &str) -> Result<Parsed, Mistake> {
    let (mut values, mut lines) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::new());
    let mut current: Option<String> = None;
    for (before, line) in text.lines().enumerate() {
        let wrong = |message: String| Mistake { line: before + 1, ..Mistake::new(file, message) };
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let rest = match line.split_once(':') {
            Some((key, value)) => {
                if key.is_empty() || key.contains(char::is_whitespace) {
                    return Err(wrong(format!("{key:?} is no key: one word, and a colon")));
                }
                if lines.insert(key.to_owned(), before + 1).is_some() {
                    return Err(wrong(format!("{key} is there twice")));
                }
                current = Some(key.to_owned());
                substitute(value.trim().trim_matches('"'), &values).map_err(wrong)?
            }
            None => line.to_owned(),
        };
        let Some(key) = &current else {
            return Err(wrong("the first line has to be KEY: VALUE".to_owned()));
        };
        let words = rest.split_whitespace().map(str::to_owned);
        values.entry(key.clone()).or_default().extend(words);
    }
    // Catalyst passes over a key without a value.
    values.retain(|_, words| !words.is_empty());
    Ok((values, lines))
}

/// Python's `%`, as far as catalyst uses it.
fn substitute(value: &str, before: &BTreeMap<String, Vec<String>>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), value);
    while let Some((plain, after)) = rest.split_once('%') {
        out.push_str(plain);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let name = after.strip_prefix('(').and_then(|after| after.split_once(")s"));
        let (name, after) =
            name.ok_or_else(|| format!("after a % comes (KEY)s, or another %: {value:?}"))?;
        match before.get(name).map(Vec::as_slice) {
            Some([word]) => out.push_str(word),
            _ => return Err(format!("%({name})s has to be a key with one word, above this line")),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `releases/specs/amd64/nomultilib/stage1-openrc-23.spec` of Gentoo's release engineers.
    const STAGE1: &str = "subarch: amd64\ntarget: stage1\nversion_stamp: openrc-@TIMESTAMP@\n\
        rel_type: 23.0-default\nprofile: default/linux/amd64/23.0\nsnapshot_treeish: @TREEISH@\n\
        source_subpath: @SEED@\ncompression_mode: pixz\nupdate_seed: yes\n\
        update_seed_command: --update --deep --newuse @world\nportage_confdir: @REPO_DIR@/portage\n";
    const STAGE3: &str = "# the second\nsubarch: amd64\ntarget: stage3\nversion_stamp: openrc-@TIMESTAMP@ # when\n\
        rel_type: 23.0-default\nprofile: default/linux/%(subarch)s/23.0\n\
        source_subpath: %(rel_type)s/stage1-%(subarch)s-%(version_stamp)s\n";

    fn fill() -> Fill {
        Fill {
            treeish: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            timestamp: "20261123T120000Z".to_owned(),
            seed: "gse/stage3-amd64-openrc-20260811T083102Z".to_owned(),
            folder: "/srv/config.d/system".to_owned(),
        }
    }

    #[test]
    fn specs_are_filled_in_and_each_takes_what_the_one_before_makes() {
        let specs = [
            Spec::parse(Target::Stage1, STAGE1).unwrap(),
            Spec::parse(Target::Stage3, STAGE3).unwrap(),
        ];
        Spec::check_chain(&specs).unwrap();
        let [stage1, stage3] = specs.map(|spec| spec.fill(&fill()).unwrap());
        assert_eq!(stage1.source(), fill().seed);
        assert_eq!(stage1.subpath(), "23.0-default/stage1-amd64-openrc-20261123T120000Z");
        assert_eq!(stage3.source(), stage1.subpath());
        assert!(stage1.text().contains("portage_confdir: /srv/config.d/system/portage\n"));
        for spec in [stage1, stage3] {
            let line = format!("\nsnapshot_treeish: {}\n", fill().treeish);
            assert!(
                spec.text().contains(&line) && !spec.text().contains('@')
                    || spec.target == Target::Stage1
            );
        }
    }

    #[test]
    fn values_go_on_over_lines_until_the_next_colon() {
        let text = format!(
            "{}stage4/use:\n\tscience\n  X  # for plots\nstage4/packages: a/b\n\tc/d e/f\nboot/kernel: gentoo\n\
             boot/kernel/gentoo/sources: sys-kernel/gentoo-sources\nstage4/rm:\n",
            STAGE3.replace("target: stage3", "target: stage4")
        );
        let spec = Spec::parse(Target::Stage4, &text).unwrap();
        assert_eq!(spec.values.get("stage4/packages").unwrap(), &["a/b", "c/d", "e/f"]);
        assert_eq!(spec.values.get("stage4/use").unwrap(), &["science", "X"]);
        assert!(!spec.values.contains_key("stage4/rm"));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let cases = [
            ("a b: c\n", "stage1.spec:1: ", "is no key"),
            ("value\n", "stage1.spec:1: ", "has to be KEY: VALUE"),
            ("rel_type: a\nrel_type: b\n", "stage1.spec:2: ", "there twice"),
            ("rel_type: %(x)s\n", "stage1.spec:1: ", "above this line"),
            ("rel_type: 5%\n", "stage1.spec:1: ", "after a % comes"),
        ];
        for (text, place, message) in cases {
            let error = Spec::parse(Target::Stage1, text).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(message), "{text:?}: {error}");
        }
        let cases = [
            ("update_seed:", "update_sead:", ":9: ", "did you mean `update_seed`"),
            ("update_seed: yes", "dev-lang/python:3.12", ":9: ", "every line with a colon"),
            ("profile: default/linux/amd64/23.0\n", "", "", "profile is missing"),
            ("rel_type: 23.0-default", "rel_type: a b", ":4: ", "has to be one word"),
            ("target: stage1", "target: stage3", ":2: ", "has to be stage1"),
            ("snapshot_treeish: @TREEISH@", "snapshot_treeish: 2026", ":6: ", "catalyst.treeish"),
            ("update_seed: yes", "rename_regexp: s/a/b/", ":9: ", "another name"),
        ];
        for (from, to, place, message) in cases {
            let text = STAGE1.replacen(from, to, 1);
            let error = Spec::parse(Target::Stage1, &text).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(message), "{to:?}: {error}");
        }
        let other = STAGE3.replace("/stage1-", "/stage2-");
        let specs = [
            Spec::parse(Target::Stage1, STAGE1).unwrap(),
            Spec::parse(Target::Stage3, &other).unwrap(),
        ];
        let error = Spec::check_chain(&specs).unwrap_err().to_string();
        assert!(
            error.contains("stage3.spec:7: ") && error.contains("stage1.spec makes"),
            "{error}"
        );
    }
}
