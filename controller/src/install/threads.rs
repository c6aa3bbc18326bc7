//! Work on several threads at once.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::sched::{CloneFlags, unshare};
use rustix::{fs::Mode, process::umask};

use super::InstallError;

/// Does `work` on each of some threads, all with a umask of 0; the first error is returned.
pub(super) fn on_threads(
    count: usize,
    work: impl Fn() -> Result<(), InstallError> + Sync,
) -> Result<(), InstallError> {
    let work = || {
        // A umask is the process's. Apart from it, modes can be given when a file is made, which saves
        // a system call for each, and no other thread notices.
        unshare(CloneFlags::CLONE_FS).map_err(|e| {
            InstallError::system("prepare", b"")(rustix::io::Errno::from_raw_os_error(e as i32))
        })?;
        umask(Mode::empty());
        work()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let mut result = Ok(());
        for thread in threads {
            result = result.and(joined(thread));
        }
        result
    })
}

/// What a thread returns; its panic is this thread's.
pub(super) fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Does some work for each of `numbers`, on some threads, as [`runs`] does.
pub(super) fn each<W: FnMut(u32) -> Result<(), InstallError>>(
    threads: usize,
    run: usize,
    numbers: &[u32],
    worker: impl Fn() -> W + Sync,
) -> Result<(), InstallError> {
    runs(threads, run, numbers, &AtomicBool::new(false), || {
        let mut work = worker();
        move |run| run.iter().try_for_each(|number| work(*number))
    })
}

/// Does some work for all of `numbers`, on some threads. Neighbours share a directory, so they are
/// taken in runs of `run`, or less where that would leave threads idle. `worker` is called once for each thread. Once
/// `stop` is set, as it is after an error, no more is begun.
pub(super) fn runs<W: FnMut(&[u32]) -> Result<(), InstallError>>(
    threads: usize,
    run: usize,
    numbers: &[u32],
    stop: &AtomicBool,
    worker: impl Fn() -> W + Sync,
) -> Result<(), InstallError> {
    let run = run.min(numbers.len().div_ceil(threads)).max(1);
    let runs = Mutex::new(numbers.chunks(run));
    on_threads(threads.min(numbers.len().div_ceil(run)), || {
        let mut work = worker();
        let next = || runs.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(run) = next().filter(|_| !stop.load(Ordering::Relaxed)) {
            work(run).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn a_few_files_are_shared_out_to_all_threads() {
        let numbers: Vec<u32> = (0..30).collect();
        let done = Mutex::new(Vec::new());
        let worker = || {
            |run: &[u32]| {
                done.lock().unwrap().push(run.to_vec());
                Ok(())
            }
        };
        runs(4, 32, &numbers, &AtomicBool::new(false), worker).unwrap();
        let mut done = done.into_inner().unwrap();
        done.sort();
        assert_eq!(done.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 8, 6]);
        assert_eq!(done.concat(), numbers);
    }

    #[test]
    fn once_something_has_failed_here_or_elsewhere_no_more_is_begun() {
        let numbers: Vec<u32> = (0..1000).collect();
        let done = AtomicU32::new(0);
        let stop = AtomicBool::new(false);
        let fail = || Err(InstallError::Frame { number: 7 });
        let count = || {
            |run: &[u32]| {
                done.fetch_add(1, Ordering::Relaxed);
                if run.contains(&7) { fail() } else { Ok(()) }
            }
        };
        // One thread, so it is known what comes before.
        assert!(matches!(runs(1, 1, &numbers, &stop, count), Err(InstallError::Frame { .. })));
        assert_eq!(done.load(Ordering::Relaxed), 8);
        runs(4, 1, &numbers, &stop, count).unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 8);
    }
}
