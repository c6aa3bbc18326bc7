//! Network namespaces, each as a host of its own.
#![allow(
    unreachable_pub,
    clippy::new_without_default,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::{fs::File, os::fd::AsRawFd as _, process::Command, thread};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace. It has no name: it goes with the last process or file that is in it, so nothing
/// is left behind, however a test ends.
#[derive(Debug)]
pub struct Host(File);

impl Host {
    /// One with nothing but its own loopback, which is down.
    pub fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(made.join().unwrap())
    }

    /// Where other processes find it, while this one lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Does `work` in a thread that is in this namespace; so are the threads that it starts.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            match inside.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// `ip WORDS…` on this host, and what it prints.
    pub fn ip(&self, words: &str) -> String {
        self.output("ip", words)
    }

    /// Runs a program with some words on this host, and gives what it prints.
    pub fn output(&self, program: &str, words: &str) -> String {
        let output = self.run(|| Command::new(program).args(words.split(' ')).output().unwrap());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {words}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}
