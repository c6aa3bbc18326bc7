//! A mirror with the stand-in's stage3, a configuration that trusts its keys, and builds.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
};

use gse::build::{hook::Hook, state::State};
pub(crate) use gse_tests::mirror::fixture;
use gse_tests::{
    lab::scratch,
    mirror::{KEYS, build_toml},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tempfile::TempDir;

pub(crate) const GSE: &str = env!("CARGO_BIN_EXE_gse");

/// `gse --serve` of a folder, until this goes.
pub(crate) struct Server {
    child: Child,
    /// It would end if nobody could read what it says.
    _says: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(folder: &Path) -> Self {
        let mut child = Command::new(GSE)
            .args(["--serve=127.0.0.1:0", "--dist"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut says = BufReader::new(child.stdout.take().unwrap());
        says.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, _says: says, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A place to build in: `config.d`, `local`, and a mirror of its own.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    base: &'static str,
    server: Server,
}

/// What a terminal makes a signal of.
pub(crate) const CTRL_C: char = '\u{3}';

/// Below the mirror.
pub(crate) const BUILDS: &str = "releases/amd64/autobuilds";
pub(crate) const POINTER: &str = "releases/amd64/autobuilds/latest-stage3-amd64-openrc.txt";
pub(crate) const STAGE3: &str = "20260811T083102Z/stage3-amd64-openrc-20260811T083102Z.tar.xz";
pub(crate) const SNAPSHOT: &str = "snapshots/gentoo-20260811.tar.xz";

impl Lab {
    pub(crate) fn new() -> Self {
        Self::of("precomp")
    }

    /// One that builds from this base.
    pub(crate) fn of(base: &'static str) -> Self {
        let dir = scratch();
        let mirror = dir.path().join("mirror");
        copy_links(&fixture().join("mirror"), &mirror);
        let lab = Self { server: Server::start(&mirror), dir, base };
        for key in KEYS {
            let path = lab.config().join("keys").join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::copy(fixture().join(key), path).unwrap();
        }
        lab.configure(&[&lab.server.url.clone()], "");
        lab
    }

    /// One whose mirror has a stage3 of two megabytes: scripts run in it, and there is no Portage.
    pub(crate) fn with_small_stage3() -> Self {
        let lab = Self::new();
        let (tree, tar) = (lab.dir.path().join("small"), lab.dir.path().join("small.tar.xz"));
        small_tree(&tree);
        let mut pack = Command::new("tar");
        pack.args(["--create", "--xz", "--file"]).arg(&tar).arg("--directory").arg(&tree).arg(".");
        assert!(pack.status().unwrap().success());
        let name = STAGE3.split('/').nth(1).unwrap();
        let sum = |program: &str| {
            let output = Command::new(program).arg(&tar).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            format!("{}  {name}\n", text.split(' ').next().unwrap())
        };
        let digests =
            format!("# BLAKE2B HASH\n{}# SHA512 HASH\n{}", sum("b2sum"), sum("sha512sum"));
        let bytes = fs::read(&tar).unwrap();
        let pointer = format!("{STAGE3} {}\n", bytes.len());
        lab.tamper(&format!("{BUILDS}/{STAGE3}"), |file| *file = bytes);
        lab.tamper(&format!("{BUILDS}/{STAGE3}.DIGESTS"), |file| {
            *file = clearsign("release", &digests);
        });
        lab.tamper(POINTER, |file| *file = clearsign("release", &pointer));
        lab
    }

    /// Writes `build.toml` with these mirrors and more text. Where that says nothing of it, eix is not installed: it takes time.
    pub(crate) fn configure(&self, mirrors: &[&str], more: &str) {
        let quick = if more.contains("[packages]") { "" } else { "[packages]\neix = false\n" };
        self.write("build.toml", &build_toml(mirrors, &format!("{quick}{more}")));
    }

    pub(crate) fn url(&self) -> &str {
        &self.server.url
    }

    pub(crate) fn mirror(&self, path: &str) -> PathBuf {
        self.dir.path().join("mirror").join(path)
    }

    /// Puts other bytes in the place of a file of the mirror, which is a link to the fixture's.
    pub(crate) fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.mirror(path);
        let mut bytes = fs::read(&file).unwrap();
        change(&mut bytes);
        fs::remove_file(&file).unwrap();
        fs::write(&file, bytes).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("config.d/system")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.config().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn local(&self) -> PathBuf {
        self.dir.path().join("local")
    }

    pub(crate) fn tree(&self, path: &str) -> PathBuf {
        self.local().join(format!("workdir-{}", self.base)).join(path)
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.local().join(format!("{}/log/{name}.log", self.base))).unwrap()
    }

    pub(crate) fn state(&self) -> String {
        fs::read_to_string(self.local().join(self.base).join("state.toml")).unwrap()
    }

    pub(crate) fn has_done(&self, hook: Hook) -> bool {
        let file = self.local().join(self.base).join("state.toml");
        State::load(&file).unwrap().is_some_and(|state| state.is_done(hook.name()))
    }

    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<String> {
        let config = self.dir.path().join("config.d");
        let mut all = vec![
            format!("--base={}", self.base),
            format!("--config={}", config.display()),
            format!("--local={}", self.local().display()),
        ];
        all.extend(more.iter().map(|arg| (*arg).to_owned()));
        all
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build");
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(GSE);
        command
            .args(self.arguments(more))
            .env("PATH", format!("{}:{path}", here.join("bin").display()))
            .env("CATALYST_REPOSITORY", here.join("repository"))
            .stdin(Stdio::null());
        command
    }

    /// A build to its end, well or not, where nobody is asked.
    pub(crate) fn build(&self, more: &[&str]) -> Output {
        let output = self.command(&[&["--auto=no"], more].concat()).output().unwrap();
        self.is_left_clean();
        output
    }

    /// A build that must succeed. The answer is what it printed.
    pub(crate) fn builds(&self, more: &[&str]) -> String {
        let output = self.build(more);
        assert!(output.status.success(), "{}", both(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a saved state again, which must succeed.
    pub(crate) fn warps(&self, state: &str) {
        let mut warp = Command::new(GSE);
        warp.arg(format!("--time-warp={state}")).current_dir(self.dir.path());
        let output = warp.output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
        self.is_left_clean();
    }

    /// A build that must fail. The answer is what it printed as errors.
    pub(crate) fn fails(&self, more: &[&str]) -> String {
        let output = self.build(more);
        assert!(!output.status.success(), "{}", both(&output));
        String::from_utf8(output.stderr).unwrap()
    }

    /// A build on a terminal of its own, at which somebody types these lines. The answer is what is on the terminal, and whether
    /// the build succeeded.
    pub(crate) fn typed(&self, more: &[&str], lines: &[&str]) -> (String, bool) {
        let words: Vec<String> = [GSE.to_owned()].into_iter().chain(self.arguments(more)).collect();
        let command = words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" ");
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (mut seen, mut buffer, mut lines) = (String::new(), [0; 4096], lines.iter());
        let mut answered = 0;
        let patience = Timespec { tv_sec: 120, tv_nsec: 0 };
        loop {
            // Somebody who is asked something unforeseen would wait for ever.
            let ready = poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&patience)).unwrap();
            if ready == 0 {
                child.kill().unwrap();
                panic!("nothing happens any more:\n{seen}");
            }
            let read = output.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
            // A prompt is answered when it is there.
            while let Some(end) = prompt(&seen[answered..]) {
                answered += end;
                let line = lines.next().unwrap_or_else(|| panic!("one question too many:\n{seen}"));
                // After Ctrl-C nobody is there for the rest of a line.
                let end = if line.contains(CTRL_C) { "" } else { "\n" };
                input.write_all(format!("{line}{end}").as_bytes()).unwrap();
            }
        }
        assert_eq!(lines.next(), None, "was never asked for:\n{seen}");
        let success = child.wait().unwrap().success();
        self.is_left_clean();
        (seen, success)
    }

    /// Starts a build, and kills it when it has printed `lines` lines, or one that `until` takes. The answer is whether it
    /// came to that.
    pub(crate) fn killed(&self, more: &[&str], until: impl FnMut(usize, &str) -> bool) -> bool {
        self.killed_with(more, &[], until)
    }

    /// The same, with variables in the environment.
    pub(crate) fn killed_with(
        &self,
        more: &[&str],
        environment: &[(&str, &str)],
        mut until: impl FnMut(usize, &str) -> bool,
    ) -> bool {
        let mut child = self
            .command(&[&["--auto=no"], more].concat())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let caught = lines.map_while(Result::ok).enumerate().any(|(n, line)| until(n, &line));
        if caught {
            let inside = children(child.id()).into_iter().map(pidfd).collect::<Vec<_>>();
            child.kill().unwrap();
            child.wait().unwrap();
            // The kernel ends the whole of a process namespace before its first process counts as ended.
            inside.iter().flatten().for_each(wait_for_end);
        } else {
            assert!(child.wait().unwrap().success());
        }
        self.is_left_clean();
        caught
    }

    /// Starts a build, and sends it a signal when it has printed a line. The answer is how it ended, and what it said as errors.
    pub(crate) fn signalled(
        &self,
        more: &[&str],
        signal: &str,
        until: &str,
    ) -> (ExitStatus, String) {
        let mut child = self
            .command(&[&["--auto=no"], more].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().map_while(Result::ok).any(|line| line == until));
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        self.is_left_clean();
        (status, said)
    }

    /// Nothing is mounted where the build was, and nothing runs there or for it.
    pub(crate) fn is_left_clean(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let dir = self.dir.path().to_str().unwrap();
        assert!(!mounts.contains(dir), "{mounts}");
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let process = entry.path();
            let leads_here = |name: &str| {
                fs::read_link(process.join(name)).is_ok_and(|place| place.starts_with(dir))
            };
            let words = fs::read(process.join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            let here = leads_here("root") || leads_here("cwd") || words.contains(dir);
            let is_ours =
                ["--serve=", "rsync --daemon"].iter().any(|mirror| words.contains(mirror));
            assert!(!here || is_ours, "{} is left: {words}", process.display());
        }
    }
}

/// Runs what follows where nothing but the folder `$1`, devices and what the kernel shows can be written: a write to any other
/// file of this machine fails.
const READ_ONLY: &str = r#"
dir=$1; shift
mount --bind "$dir" "$dir"
while read -r _ _ _ _ point _; do
    case "$point" in
        "$dir" | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
        *) mount -o remount,bind,ro "$point" 2>/dev/null ;;
    esac
done </proc/self/mountinfo
for place in / /tmp /var/tmp /run /root; do
    if touch "$place/gse-written" 2>/dev/null; then echo "$place can be written" >&2; exit 99; fi
done
exec "$@"
"#;

impl Lab {
    /// A build that must succeed where all of this machine but the lab is read-only. The answer is what it printed.
    pub(crate) fn builds_beside_a_read_only_host(&self, more: &[&str]) -> String {
        let build = self.command(&[&["--auto=no"], more].concat());
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", READ_ONLY, "bash"]).arg(self.dir.path());
        command.arg(build.get_program()).args(build.get_args()).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
        self.is_left_clean();
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Where the first prompt ends: gse's own, or that of its shell.
fn prompt(text: &str) -> Option<usize> {
    let ends = ["\n> ", "(gse) / # "].map(|p| text.find(p).map(|at| at + p.len()));
    ends.into_iter().flatten().min()
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|e| e.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains(&format!("\nPPid:\t{parent}\n"))
        })
        .collect()
}

fn pidfd(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid.try_into().unwrap())?, PidfdFlags::empty()).ok()
}

fn wait_for_end(process: &OwnedFd) {
    poll(&mut [PollFd::new(process, PollFlags::IN)], None).unwrap();
}

pub(crate) fn both(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n---\n{}", text(&output.stdout), text(&output.stderr))
}

fn copy_links(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["--archive", "--link"]).arg(from).arg(to).status();
    if !status.unwrap().success() {
        // Another filesystem.
        let _ = fs::remove_dir_all(to);
        let status = Command::new("cp").arg("--archive").arg(from).arg(to).status().unwrap();
        assert!(status.success());
    }
}

/// Signs a text with one of the fixture's keys.
pub(crate) fn clearsign(role: &str, text: &str) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    let copied =
        Command::new("cp").arg("-a").arg(fixture().join("gnupg/.")).arg(home.path()).status();
    assert!(copied.unwrap().success());
    fs::write(home.path().join("text"), text).unwrap();
    let status = Command::new("gpg")
        .arg("--homedir")
        .arg(home.path())
        .args(["--batch", "--quiet", "--local-user", &format!("{role}@gse.example"), "--clearsign"])
        .arg(home.path().join("text"))
        .status()
        .unwrap();
    assert!(status.success());
    let signed = fs::read(home.path().join("text.asc")).unwrap();
    let end =
        Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]).status();
    assert!(end.unwrap().success());
    signed
}

/// A tree of two megabytes that scripts run in.
pub(crate) fn small_tree(dir: &Path) {
    for below in ["bin", "etc/init.d", "root", "var/log", "var/tmp", "usr/share/doc"] {
        fs::create_dir_all(dir.join(below)).unwrap();
    }
    fs::copy("/bin/busybox", dir.join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "mkdir", "cp", "env", "touch", "test", "true", "false"] {
        std::os::unix::fs::symlink("busybox", dir.join("bin").join(applet)).unwrap();
    }
    let bash = dir.join("bin/bash");
    fs::write(&bash, "#!/bin/sh\nexec /bin/busybox sh \"$@\"\n").unwrap();
    fs::set_permissions(&bash, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
