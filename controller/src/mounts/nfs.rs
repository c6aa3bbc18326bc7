//! Directories of file servers, by the kernel's own NFS client.
//!
//! There is no mount.nfs(8) here: names are resolved, and versions tried, before mount(2) gets `addr=` and `vers=`
//! (nfs(5), and `fs/nfs/fs_context.c` for what the kernel itself reads). Servers that do not answer hold up the boot no
//! longer than `nfs_timeout`: all are asked at once.

use std::{
    fs,
    net::ToSocketAddrs as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::{
    Mounts,
    mounts::{Bind, nfs_server},
};
use nix::errno::Errno;

use super::target;
use crate::{
    mount::{self, MountError, MountFlags},
    network,
};

/// In the order in which they are tried, unless the options have one.
const VERSIONS: [&str; 3] = ["vers=4.2,", "vers=4.1,", "vers=4.0,"];
/// By what servers tell their clients apart. The host's name is not set yet, and would be the same for all.
const CLIENT: &str = "/sys/module/nfs/parameters/nfs4_unique_id";

/// What came of a mount, once it is there.
type Answer = Arc<Mutex<Option<Result<()>>>>;

/// Mounts all; `tell` hears of each what came of it.
pub(super) fn mount_all(
    root: &Path,
    config: &Mounts,
    tell: &mut dyn FnMut(&str, &str, Result<()>),
) {
    if config.nfs.is_empty() {
        return;
    }
    let client = network::identity(Path::new("/sys")).macs.into_iter().next();
    // An older kernel has no such parameter, and a machine that boots all the same.
    let _ = client.map(|mac| fs::write(CLIENT, mac));
    let started: Vec<_> = config.nfs.iter().map(|nfs| start(root, nfs)).collect();
    let until = Instant::now() + Duration::from_secs(u64::from(config.nfs_timeout));
    for (nfs, started) in config.nfs.iter().zip(started) {
        let done = started.and_then(|answer| {
            let take = || answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut came = take();
            while came.is_none() && Instant::now() < until {
                thread::park_timeout(until.saturating_duration_since(Instant::now()));
                came = take();
            }
            came.with_context(|| format!("no answer within {} s", config.nfs_timeout))?
        });
        tell(&nfs.to, &format!("is not mounted from {}", nfs.from), done);
    }
}

/// Begins in a thread of its own, which wakes this one. A thread that hangs ends with this program.
fn start(root: &Path, nfs: &Bind) -> Result<Answer> {
    let (open, on) = target(root, &nfs.to)?;
    let (nfs, answer, waiting) = (nfs.clone(), Answer::default(), thread::current());
    let to = Arc::clone(&answer);
    let work = move || {
        let came = mount_one(&nfs, &on);
        drop(open);
        *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
        waiting.unpark();
    };
    thread::Builder::new().spawn(work).context("starting a thread")?;
    Ok(answer)
}

/// Tries each address of the server, and each version that it may have.
fn mount_one(nfs: &Bind, on: &Path) -> Result<()> {
    let server = nfs_server(&nfs.from).context("there is no server in it")?;
    let (flags, data) = mount::options(&nfs.options);
    let own = data.contains("vers=");
    let versions = if own { &[""] } else { VERSIONS.as_slice() };
    let flags = flags | MountFlags::NODEV | MountFlags::NOSUID;
    let addresses =
        (server, 0).to_socket_addrs().with_context(|| format!("looking up {server}"))?;
    let mut failure = None;
    for address in addresses {
        for version in versions {
            let data = format!("{version}addr={},{data}", address.ip());
            match mount::mount(Path::new(&nfs.from), on, "nfs", flags, &data) {
                Ok(()) => return Ok(()),
                Err(e) => {
                    let other = is_other_version(&e);
                    failure = Some(e);
                    if !other {
                        break;
                    }
                }
            }
        }
    }
    match failure {
        Some(e) => Err(e.into()),
        None => bail!("{server} has no address"),
    }
}

fn is_other_version(error: &MountError) -> bool {
    let MountError::Mount { source, .. } = error else { return false };
    source.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32)
}
