//! The caches that `docs/room-cache` describes, as their packages run them, on the switch of a room.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use gse_qemu::{
    fixtures::repository,
    process::{self, Child},
};

use crate::netns::Room;

/// Where a cache listens.
pub const PORT: u16 = 8080;

/// Who is called `nobody` everywhere.
const NOBODY: u32 = 65534;

/// A program that is a cache.
#[derive(Debug, Clone, Copy)]
pub enum Cache {
    /// Keeps slices of files.
    Nginx,
    /// Keeps whole files.
    Squid,
}

impl Cache {
    /// The cache on a room's switch as its documented configuration sets it up, for the server at `origin`. It listens
    /// when this returns. `work` is an empty directory.
    pub fn start(self, room: &Room, work: &Path, origin: SocketAddr) -> Child {
        let files = work.join("files");
        fs::create_dir(&files).unwrap();
        let mut command = match self {
            Self::Nginx => nginx(room, work, &files, origin),
            Self::Squid => squid(room, work, &files, origin),
        };
        command.stdin(Stdio::null());
        let mut child = process::spawn(command).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        room.switch.run(|| {
            while let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)) {
                let ended = child.wait_timeout(Duration::from_millis(10)).unwrap();
                assert!(ended.is_none() && Instant::now() < end, "{self:?}: {error}, {ended:?}");
            }
        });
        child
    }
}

fn nginx(room: &Room, work: &Path, files: &Path, origin: SocketAddr) -> Command {
    let ours = [
        ("gse.example:8080", origin.to_string()),
        ("/var/cache/nginx/gse", files.display().to_string()),
    ];
    fs::write(work.join("part.conf"), documented("nginx.conf", &ours)).unwrap();
    let (whole, work) = (work.join("nginx.conf"), work.display());
    // What Debian's own has around it, but for where files lie.
    let text = format!(
        "daemon off; master_process off; error_log stderr; pid {work}/pid; events {{}} http {{ access_log off;\n\
         client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;\n\
         uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi; include {work}/part.conf; }}\n"
    );
    fs::write(&whole, text).unwrap();
    let mut command = room.switch.command("nginx");
    command.args(["-e", "stderr", "-c"]).arg(&whole);
    command
}

fn squid(room: &Room, work: &Path, files: &Path, origin: SocketAddr) -> Command {
    let ours = [
        ("defaultsite=gse.example:8080", format!("defaultsite={origin}")),
        ("gse.example parent 8080", format!("{} parent {}", origin.ip(), origin.port())),
        ("/var/spool/squid", files.display().to_string()),
    ];
    let part = documented("squid.conf", &ours);
    let whole = work.join("squid.conf");
    // What Debian's own has around it, but for what one squid of a machine has to itself.
    let text = format!(
        "acl localnet src 10.0.0.0/8\n{part}\nhttp_access deny all\nrefresh_pattern . 0 20% 4320\n\
         pid_filename none\naccess_log none\ncache_log /dev/null\ndebug_options ALL,0\nnetdb_filename none\npinger_enable off\n\
         coredump_dir none\ncache_effective_user nobody\nmemory_cache_shared off\n"
    );
    fs::write(&whole, text).unwrap();
    // It never runs as root, and its user has to come to its files.
    fs::set_permissions(work, fs::Permissions::from_mode(0o755)).unwrap();
    chown(files, Some(NOBODY), None).unwrap();
    let squid = || {
        // What it shares has the same name for all squids of a machine, and stays behind when it is killed.
        let alone = "mount -t tmpfs tmpfs /dev/shm && exec squid -N -d 0 -f \"$@\"";
        let mut command = room.switch.command("unshare");
        command.args(["--mount", "sh", "-c", alone, "squid"]).arg(&whole);
        command
    };
    let mut prepare = squid();
    prepare.arg("-z");
    process::output(prepare).unwrap();
    squid()
}

/// A configuration as it is documented, with other words where a person puts others too.
fn documented(name: &str, replace: &[(&str, String)]) -> String {
    let text = fs::read_to_string(repository().join("docs/room-cache").join(name)).unwrap();
    replace.iter().fold(text, |text, (word, ours)| {
        assert!(text.contains(word), "{word} is not in {name}:\n{text}");
        text.replace(word, ours)
    })
}
