//! Files that lie in several frames: their digest goes from thread to thread, in the order of the
//! bytes.
//!
//! Nobody waits in a circle: frames are handed out in their order, and who waits here for a frame waits
//! for an earlier one.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sha2::Sha256;

/// A file that several threads write.
pub(super) struct Shared {
    pub(super) fd: OwnedFd,
    missing: AtomicU64,
}

impl Shared {
    pub(super) fn new(fd: OwnedFd, stored: u64) -> Self {
        Self { fd, missing: AtomicU64::new(stored) }
    }

    /// Counts `bytes` as written; whether they were the last.
    pub(super) fn wrote(&self, bytes: u64) -> bool {
        self.missing.fetch_sub(bytes, Ordering::AcqRel) == bytes
    }
}

/// What one frame leaves to the next one: the file, and the digest of its bytes up to there.
pub(super) struct Link {
    pub(super) file: Arc<Shared>,
    pub(super) hasher: Sha256,
}

/// The links that wait to be taken on, by the file's position in the index and by how many bytes of it
/// were digested.
#[derive(Default)]
pub(super) struct Chain {
    links: Mutex<HashMap<(u32, u64), Link>>,
    moved: Condvar,
    stopped: AtomicBool,
}

impl Chain {
    /// Leaves a link to the thread that has the next frame.
    pub(super) fn give(&self, entry: u32, digested: u64, link: Link) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert((entry, digested), link);
        self.moved.notify_all();
    }

    /// Takes the link that the frame before leaves; `None` once the work was stopped.
    pub(super) fn take(&self, entry: u32, digested: u64) -> Option<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(link) = links.remove(&(entry, digested)) {
                return Some(link);
            }
            links = self.moved.wait(links).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends all work: something failed.
    pub(super) fn stop(&self) {
        // Under the lock, or a thread between its look and its wait would sleep for ever.
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped.store(true, Ordering::Release);
        drop(links);
        self.moved.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Stops the chain unless it is told that all went well: also when its thread panics.
pub(super) struct StopOnFailure<'c> {
    pub(super) chain: &'c Chain,
    pub(super) done: bool,
}

impl Drop for StopOnFailure<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.chain.stop();
        }
    }
}
