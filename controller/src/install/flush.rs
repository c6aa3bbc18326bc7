//! Starts to bring files to the disk while others are still being unpacked.
//!
//! Left to itself, the kernel keeps what was written in memory until there is a tenth of it dirty,
//! and the disk idles until the end.

use std::{
    os::fd::BorrowedFd,
    sync::{Condvar, Mutex, PoisonError},
};

use rustix::fs::syncfs;

use super::InstallError;

/// How many bytes are written before they are brought to the disk: seconds of work for a disk, and
/// little enough to be done soon after the last file.
const RUN: u64 = 128 << 20;

/// Counts bytes, and syncs each time that there are enough.
#[derive(Default)]
pub(super) struct Flusher {
    state: Mutex<State>,
    changed: Condvar,
}

/// More is going to be written, for as long as this is there.
pub(super) struct Writing<'f>(&'f Flusher);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.0.changed.notify_one();
    }
}

#[derive(Default)]
struct State {
    dirty: u64,
    ended: bool,
}

impl Flusher {
    /// So many bytes were written.
    pub(super) fn wrote(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.dirty += bytes;
        if state.dirty >= RUN {
            self.changed.notify_one();
        }
    }

    /// Until the answer is dropped, also by a panic, there is more to come.
    pub(super) fn begin(&self) -> Writing<'_> {
        Writing(self)
    }

    /// Syncs until there is no more.
    pub(super) fn work(&self, root: BorrowedFd<'_>) -> Result<(), InstallError> {
        loop {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            while !state.ended && state.dirty < RUN {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.ended {
                return Ok(());
            }
            state.dirty = 0;
            drop(state);
            syncfs(root).map_err(InstallError::system("sync", b""))?;
        }
    }
}
