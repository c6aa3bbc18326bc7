//! Directories of file servers, by the kernel's own NFS client.
//!
//! There is no mount.nfs(8) here: names are resolved, and versions tried, before mount(2) gets `addr=` and `vers=`
//! (nfs(5), and `fs/nfs/fs_context.c` for what the kernel itself reads). A server that does not answer holds up
//! the boot no longer than its `timeout`, and all servers are asked at once.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::mounts::Nfs;
use nix::errno::Errno;

use super::target;
use crate::{
    mount::{self, MountError, MountFlags},
    network,
};

const PORT: u16 = 2049;
/// In the order in which they are tried.
const VERSIONS: [&str; 3] = ["4.2", "4.1", "4.0"];
/// By what servers tell their clients apart. The host's name is not set yet, and would be the same for all.
const CLIENT: &str = "/sys/module/nfs/parameters/nfs4_unique_id";

/// Mounts all; `tell` hears of each what came of it.
pub(super) fn mount_all(root: &Path, all: &[Nfs], tell: &mut dyn FnMut(&str, &str, Result<()>)) {
    if all.is_empty() {
        return;
    }
    let client = network::identity(Path::new("/sys")).macs.into_iter().next();
    // An older kernel has no such parameter, and a machine that boots all the same.
    let _ = client.map(|mac| fs::write(CLIENT, mac));
    let started: Vec<_> = all.iter().map(|nfs| start(root, nfs)).collect();
    let since = Instant::now();
    for (nfs, started) in all.iter().zip(started) {
        let limit = Duration::from_secs(u64::from(nfs.timeout));
        let done = started.and_then(|answer| {
            let left = limit.saturating_sub(since.elapsed());
            answer.recv_timeout(left).unwrap_or_else(|_| {
                bail!("no answer within {} s", nfs.timeout);
            })
        });
        tell(&nfs.to, &format!("is not mounted from {}", nfs.from), done);
    }
}

/// Begins in a thread of its own. One that hangs ends with this program.
fn start(root: &Path, nfs: &Nfs) -> Result<mpsc::Receiver<Result<()>>> {
    let (open, on) = target(root, &nfs.to)?;
    let (answer, answers) = mpsc::channel();
    let nfs = nfs.clone();
    let work = move || {
        let done = mount_one(&nfs, &on);
        drop(open);
        // Who does not wait any more needs no answer.
        let _ = answer.send(done);
    };
    thread::Builder::new().spawn(work).context("starting a thread")?;
    Ok(answers)
}

fn mount_one(nfs: &Nfs, on: &Path) -> Result<()> {
    let (server, _) = nfs.server().context("there is no server in it")?;
    let (flags, data) = mount::options(&nfs.options);
    let value = |key: &str| {
        data.split(',')
            .find_map(|word| word.split_once('=').filter(|(k, _)| *k == key))
            .map(|w| w.1)
    };
    let port = value("port").and_then(|port| port.parse().ok()).unwrap_or(PORT);
    let address = reachable(server, port, Duration::from_secs(u64::from(nfs.timeout)))?;
    let flags = flags | MountFlags::NODEV | MountFlags::NOSUID;
    let own = ["vers", "nfsvers"].iter().any(|key| value(key).is_some());
    let versions = if own { &[""] } else { VERSIONS.as_slice() };
    let mut done = Ok(());
    for version in versions {
        let mut words = vec![format!("addr={}", address.ip())];
        words.extend((!version.is_empty()).then(|| format!("vers={version}")));
        words.extend((!data.is_empty()).then(|| data.clone()));
        done = mount::mount(Path::new(&nfs.from), on, "nfs", flags, &words.join(","));
        if !done.as_ref().is_err_and(is_other_version) {
            break;
        }
    }
    Ok(done?)
}

fn is_other_version(error: &MountError) -> bool {
    let MountError::Mount { source, .. } = error else { return false };
    source.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32)
}

/// The first address of the server at which somebody answers.
fn reachable(server: &str, port: u16, limit: Duration) -> Result<SocketAddr> {
    let addresses =
        (server, port).to_socket_addrs().with_context(|| format!("looking up {server}"))?;
    let mut why = io::Error::other("the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(_) => return Ok(address),
            Err(e) => why = e,
        }
    }
    Err(why).with_context(|| format!("connecting to {server}, port {port}"))
}
