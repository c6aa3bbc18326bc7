//! Buffers for packed frames, which bound the memory that an archive takes.

use std::{
    ops::Deref,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// A fixed number of buffers. They are allocated once, as musl's allocator is slow with many threads
/// and fresh pages have to be zeroed by the kernel.
pub(super) struct Pool {
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    free: Vec<Vec<u8>>,
    closed: bool,
}

impl Pool {
    /// `count` buffers with room for `capacity` bytes each.
    pub(super) fn new(count: usize, capacity: usize) -> Self {
        let free = (0..count).map(|_| Vec::with_capacity(capacity)).collect();
        Self { state: Mutex::new(State { free, closed: false }), returned: Condvar::new() }
    }

    /// An empty buffer, as soon as there is one; `None` once the pool is closed.
    pub(super) fn take(&self) -> Option<Buffer<'_>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(mut bytes) = state.free.pop() {
                bytes.clear();
                return Some(Buffer { bytes, pool: self });
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nobody gets a buffer any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.returned.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer, which goes back to its pool when it is dropped.
pub(super) struct Buffer<'p> {
    bytes: Vec<u8>,
    pool: &'p Pool,
}

impl Buffer<'_> {
    /// To write to, within its capacity.
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        self.pool.lock().free.push(std::mem::take(&mut self.bytes));
        self.pool.returned.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_waited_for_and_comes_back_empty_with_its_memory() {
        let pool = Pool::new(1, 100);
        let mut first = pool.take().unwrap();
        first.bytes_mut().extend_from_slice(b"old");
        let place = first.as_ptr();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let second = pool.take().unwrap();
                (second.len(), second.as_ptr() as usize)
            });
            drop(first);
            assert_eq!(waiting.join().unwrap(), (0, place as usize));
        });
    }

    #[test]
    fn a_closed_pool_lets_nobody_wait() {
        let pool = Pool::new(1, 1);
        let held = pool.take().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.take().is_none());
            pool.close();
            assert!(waiting.join().unwrap());
        });
        drop(held);
        assert!(pool.take().is_none());
    }
}
