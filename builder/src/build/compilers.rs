//! distcc and ccache: compilation on other machines, and compilation that was done before.
//!
//! Both come into the new system as packages that part J removes, and are asked for by Portage's own means: `FEATURES` and
//! their variables, as <https://wiki.gentoo.org/wiki/Distcc> and <https://wiki.gentoo.org/wiki/Ccache> say.

use std::{
    fmt, io,
    net::{TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::Deserialize;

use super::{checks::Finding, config::Build, mounts::INSIDE};

/// The port of distccd.
const PORT: u16 = 3632;
/// How long a host may take to answer before anything is built.
const PATIENCE: Duration = Duration::from_secs(5);
/// Under which the folder of ccache is shown inside.
pub const SHOWN: &str = "ccache";

/// `--distcc`, and `distcc.use`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Distcc {
    /// Everything is compiled here.
    #[default]
    No,
    /// Compilation goes to the hosts.
    On,
    /// Preprocessing too.
    Pump,
}

/// `--ccache`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ccache {
    /// It is used.
    #[value(alias = "yes")]
    On,
    /// It is not.
    No,
}

/// What distcc takes in `DISTCC_HOSTS` (distcc(1)), as far as it works inside a build: TCP, and this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Host {
    text: String,
    /// Name and port, of one that can be asked.
    address: Option<(String, u16)>,
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{text:?} is no host for distcc: {why}"));
        if text.is_empty() || text.contains(char::is_whitespace) {
            return wrong("one word, as in \"build1/8\" or \"build1:3632/8,lzo\"");
        }
        if text.contains('@') {
            return wrong("there are no keys for SSH inside a build, so it has to be one of TCP");
        }
        if text.starts_with("--") || text.starts_with('+') {
            return Ok(Self { text, address: None });
        }
        let place = text.split([',', '/']).next().unwrap_or_default();
        let (name, port) = match place.rsplit_once(':') {
            // An IPv6 address stands in brackets.
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                match port.parse() {
                    Ok(port) => (name, port),
                    Err(_) => return wrong("behind the colon stands a port"),
                }
            }
            _ => (place, PORT),
        };
        if name.is_empty() {
            return wrong("it has no name");
        }
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        // distcc starts the compiler itself there, without a server.
        let address = (name != "localhost").then_some((name, port));
        Ok(Self { text, address })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Host {
    fn answers(&self) -> io::Result<()> {
        let Some((name, port)) = &self.address else { return Ok(()) };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in (name.as_str(), *port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(_) => return Ok(()),
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

/// What a build compiles with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compilers {
    /// distcc, and how.
    pub distcc: Distcc,
    hosts: Vec<Host>,
    /// The folder of ccache on this machine, if it is used.
    pub ccache: Option<PathBuf>,
    size: Option<String>,
}

impl Compilers {
    /// By the configuration, unless the flags say otherwise.
    pub fn new(
        build: &Build,
        local: &Path,
        distcc: Option<Distcc>,
        ccache: Option<Ccache>,
    ) -> Self {
        let cached = ccache.map_or(build.ccache.used, |ccache| ccache == Ccache::On);
        let folder = build.ccache.dir.as_deref().unwrap_or(Path::new("ccache"));
        Self {
            distcc: distcc.unwrap_or(build.distcc.used),
            hosts: build.distcc.hosts.clone(),
            ccache: cached.then(|| local.join(folder)),
            size: build.ccache.size.clone(),
        }
    }

    /// What stands against them: hosts that do not answer.
    pub fn check(&self) -> Vec<Finding> {
        if self.distcc == Distcc::No {
            return Vec::new();
        }
        let answers: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> =
                self.hosts.iter().map(|host| (host, scope.spawn(|| host.answers()))).collect();
            asked.into_iter().map(|(host, answer)| (host, answer.join())).collect()
        });
        let silent: Vec<String> = answers
            .into_iter()
            .filter_map(|(host, answer)| match answer {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(format!("{host} ({e})")),
                Err(_) => Some(host.to_string()),
            })
            .collect();
        let names = silent.join(", ");
        if silent.len() == self.hosts.len() {
            let which = if names.is_empty() { "none is named".to_owned() } else { names };
            vec![Finding::Fatal(format!(
                "distcc has no host to compile on, {which}: look at distcc.hosts in build.toml and at distccd there, or build \
                 without --distcc"
            ))]
        } else if silent.is_empty() {
            Vec::new()
        } else {
            vec![Finding::Warning(format!("these hosts of distcc do not answer: {names}"))]
        }
    }

    /// The packages that the new system needs for them.
    pub fn packages(&self) -> impl Iterator<Item = &'static str> {
        let distcc = (self.distcc != Distcc::No).then_some("sys-devel/distcc");
        let ccache = self.ccache.as_ref().map(|_| "dev-util/ccache");
        [ccache, distcc].into_iter().flatten()
    }

    /// The environment of Portage, once the packages are there: `is_there` tells of a program.
    pub fn environment(&self, is_there: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let mut features = Vec::new();
        let mut found = Vec::new();
        if self.ccache.is_some() && is_there("ccache") {
            features.push("ccache");
            found.push(pair("CCACHE_DIR", format!("/{INSIDE}/{SHOWN}")));
            found.extend(self.size.iter().map(|size| pair("CCACHE_MAXSIZE", size.clone())));
            // Portage compiles as another user than root.
            found.push(pair("CCACHE_UMASK", "002".to_owned()));
        }
        if self.distcc != Distcc::No && is_there("distcc") {
            features.push("distcc");
            let hosts: Vec<String> = self.hosts.iter().map(|host| self.of_mode(host)).collect();
            found.push(pair("DISTCC_HOSTS", hosts.join(" ")));
        }
        if !features.is_empty() {
            // Portage adds this to what make.conf says.
            found.push(pair("FEATURES", features.join(" ")));
        }
        found
    }

    /// pump mode needs hosts that preprocess (distcc(1)).
    fn of_mode(&self, host: &Host) -> String {
        let plain = self.distcc != Distcc::Pump || host.address.is_none();
        if plain || host.text.contains(",cpp") {
            host.to_string()
        } else {
            let lzo = if host.text.contains(",lzo") { "" } else { ",lzo" };
            format!("{host},cpp{lzo}")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn compilers(toml: &str, distcc: Option<Distcc>, ccache: Option<Ccache>) -> Compilers {
        Compilers::new(&Build::parse(toml).unwrap(), Path::new("/local"), distcc, ccache)
    }

    #[test]
    fn flags_win_over_the_configuration() {
        let toml =
            "[distcc]\nuse = \"pump\"\nhosts = [\"a\"]\n[ccache]\nuse = true\ndir = \"/srv/c\"\n";
        let by_file = compilers(toml, None, None);
        assert_eq!(by_file.distcc, Distcc::Pump);
        assert_eq!(by_file.ccache.as_deref(), Some(Path::new("/srv/c")));
        assert_eq!(by_file.packages().collect::<Vec<_>>(), ["dev-util/ccache", "sys-devel/distcc"]);
        let by_flags = compilers(toml, Some(Distcc::No), Some(Ccache::No));
        assert_eq!(by_flags.packages().count(), 0);
        assert_eq!(by_flags.environment(|_| true), []);
        let neither = compilers("", Some(Distcc::On), Some(Ccache::On));
        assert_eq!(neither.ccache.as_deref(), Some(Path::new("/local/ccache")));
    }

    #[test]
    fn portage_is_told_what_is_there() {
        let toml = "[distcc]\nhosts = [\"localhost/2\", \"a/8\", \"b:3333/4,lzo\"]\n[ccache]\nsize = \"5G\"\n";
        let pump = compilers(toml, Some(Distcc::Pump), Some(Ccache::On));
        let expected = [
            ("CCACHE_DIR", "/run/gse/ccache"),
            ("CCACHE_MAXSIZE", "5G"),
            ("CCACHE_UMASK", "002"),
            ("DISTCC_HOSTS", "localhost/2 a/8,cpp,lzo b:3333/4,lzo,cpp"),
            ("FEATURES", "ccache distcc"),
        ];
        assert_eq!(pump.environment(|_| true), expected.map(|(n, v)| (n.into(), v.into())));
        let on = Compilers { distcc: Distcc::On, ..pump };
        let found = on.environment(|program| program == "distcc");
        let expected = [("DISTCC_HOSTS", "localhost/2 a/8 b:3333/4,lzo"), ("FEATURES", "distcc")];
        assert_eq!(found, expected.map(|(n, v)| (n.into(), v.into())));
        assert_eq!(on.environment(|_| false), []);
    }

    #[test]
    fn hosts_that_do_not_answer_are_told_before_a_build() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = format!("127.0.0.1:{}/4", listener.local_addr().unwrap().port());
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let silent = format!("127.0.0.1:{closed}");
        let check = |hosts: &[&str]| {
            compilers(&format!("[distcc]\nuse = \"on\"\nhosts = {hosts:?}\n"), None, None).check()
        };
        assert_eq!(check(&[&answers, "localhost/2", "--randomize"]), []);
        match check(&[&answers, &silent]).as_slice() {
            [Finding::Warning(text)] => assert!(text.contains(&silent), "{text}"),
            other => assert_eq!(other, []),
        }
        for none in [&[][..], &[silent.as_str()]] {
            match check(none).as_slice() {
                [Finding::Fatal(text)] => assert!(text.contains("distcc.hosts"), "{text}"),
                other => assert_eq!(other, []),
            }
        }
    }

    #[test]
    fn hosts_are_those_that_distcc_can_reach_from_inside() {
        let address = |text: &str| Host::try_from(text.to_owned()).unwrap().address;
        let host = |name: &str, port| Some((name.to_owned(), port));
        assert_eq!(address("build1"), host("build1", 3632));
        assert_eq!(address("build1:99/8,lzo"), host("build1", 99));
        assert_eq!(address("[fe80::1]:99"), host("fe80::1", 99));
        assert_eq!(address("[fe80::1]/4"), host("fe80::1", 3632));
        for none in ["localhost", "localhost/4", "--localslots=2", "+zeroconf"] {
            assert_eq!(address(none), None, "{none}");
        }
        for (wrong, why) in [
            ("", "one word"),
            ("a b", "one word"),
            ("me@a", "SSH"),
            ("a:b", "a port"),
            (":1", "no name"),
        ] {
            let error = Host::try_from(wrong.to_owned()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
