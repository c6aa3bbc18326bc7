//! How far the work is.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes that were read from the sources, and tells.
pub(super) struct Meter<'p> {
    done: AtomicU64,
    total: AtomicU64,
    tell: &'p (dyn Fn(u64, u64) + Sync),
}

impl<'p> Meter<'p> {
    /// `tell` is given the bytes that are done, and how many there are in all.
    pub(super) fn new(tell: &'p (dyn Fn(u64, u64) + Sync)) -> Self {
        Self { done: AtomicU64::new(0), total: AtomicU64::new(0), tell }
    }

    /// There are so many more to do.
    pub(super) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many more are done.
    pub(super) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.tell)(done, self.total.load(Ordering::Relaxed));
    }
}
