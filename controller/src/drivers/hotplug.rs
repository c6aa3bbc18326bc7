//! Devices that appear late: the kernel's events load their drivers and wake whoever waits.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
        recvfrom, socket_with, sockopt,
    },
};

use super::{Drivers, uevent::Uevent};
use crate::log::Log;

/// The group in which the kernel speaks.
const KERNEL_GROUP: u32 = 1;
/// The group in which udev repeats the kernel's events, once it is done with them (systemd's `MONITOR_GROUP_UDEV`).
const UDEV_GROUP: u32 = 2;

/// The kernel's events have at most 2048 bytes of variables (`UEVENT_BUFFER_SIZE`), and the path.
const EVENT_BYTES: usize = 8192;

/// What the kernel keeps for us while we are busy: at a boot thousands of events come at once.
const QUEUE_BYTES: usize = 16 << 20;

/// What somebody waits for may come without an event, such as a carrier.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// After so long without a new device, the buses have shown what hangs on them. A disk on USB takes a second to be looked at,
/// and no kernel says when it is done.
const SETTLED: Duration = Duration::from_secs(3);

/// The kernel's events cannot be listened to.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen to the kernel's device events ({0}): is the kernel built with CONFIG_NET?")]
pub struct HotplugError(#[from] io::Error);

/// Loads the drivers of the devices that are there, then of each that the kernel announces, in threads
/// of its own, until it is dropped.
pub struct Hotplug {
    drivers: Arc<Drivers>,
    shared: Arc<Shared>,
    stop: OwnedFd,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    events: Mutex<u64>,
    changed: Condvar,
    stopping: AtomicBool,
    coldplugged: AtomicBool,
    /// When the last device appeared, or the first look at them ended.
    appeared: Mutex<Option<Instant>>,
}

enum Work {
    /// Look at all devices in sysfs.
    Scan,
    /// Load the drivers of this modalias.
    Load(String),
}

impl Hotplug {
    /// Listens to the kernel, and only then looks at the devices that are there (`sys` is where sysfs is
    /// mounted): none is missed in between. Returns at once.
    pub fn start(drivers: Arc<Drivers>, sys: PathBuf, log: Arc<Log>) -> Result<Self, HotplugError> {
        let (mut hotplug, work) = Self::listen(Arc::clone(&drivers), KERNEL_GROUP)?;
        let shared = Arc::clone(&hotplug.shared);
        let loader = move || load(&work, &drivers, &sys, &shared, &log);
        hotplug.threads.push(thread::Builder::new().name("drivers".into()).spawn(loader)?);
        Ok(hotplug)
    }

    /// Where udevd runs, it loads the drivers, and the kernel those of filesystems by modprobe. This only
    /// waits, first until `settle` returns, which waits for udevd. Returns at once.
    pub fn beside_udev(settle: impl FnOnce() + Send + 'static) -> Result<Self, HotplugError> {
        let (mut hotplug, work) = Self::listen(Arc::default(), KERNEL_GROUP | UDEV_GROUP)?;
        drop(work);
        let shared = Arc::clone(&hotplug.shared);
        let waiter = move || {
            settle();
            shared.set_coldplugged();
        };
        hotplug.threads.push(thread::Builder::new().name("udev".into()).spawn(waiter)?);
        Ok(hotplug)
    }

    /// Begins to listen, with the first piece of work for whoever loads drivers.
    fn listen(
        drivers: Arc<Drivers>,
        groups: u32,
    ) -> Result<(Self, mpsc::Receiver<Work>), HotplugError> {
        let socket = open(groups).map_err(io::Error::from)?;
        let stop =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        let mut hotplug =
            Self { drivers, shared: Arc::default(), stop: stop.try_clone()?, threads: Vec::new() };
        let (to_loader, work) = mpsc::channel();
        // The receiver is alive: it is in this function.
        let _ = to_loader.send(Work::Scan);
        let shared = Arc::clone(&hotplug.shared);
        let listener = move || receive(&socket, &stop, &shared, &to_loader);
        hotplug.threads.push(thread::Builder::new().name("hotplug".into()).spawn(listener)?);
        Ok((hotplug, work))
    }

    /// The drivers, for those that are loaded by name.
    pub fn drivers(&self) -> &Arc<Drivers> {
        &self.drivers
    }

    /// Whether the devices that were there at the start have their drivers. Their own children may
    /// still be on their way.
    pub fn coldplugged(&self) -> bool {
        self.shared.coldplugged.load(Ordering::Acquire)
    }

    /// Whether the devices that were there at the start have their drivers, and none has appeared for three seconds.
    pub fn settled(&self) -> bool {
        let appeared = self.shared.appeared.lock().unwrap_or_else(PoisonError::into_inner);
        self.coldplugged() && appeared.is_some_and(|at| at.elapsed() >= SETTLED)
    }

    /// Asks `probe` at once, then after each event and at least once a second, until it has an answer or
    /// `deadline` (counted from now) is over.
    pub fn wait_until<T>(
        &self,
        deadline: Duration,
        mut probe: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let start = Instant::now();
        let mut seen = *self.shared.events();
        loop {
            if let Some(answer) = probe() {
                return Some(answer);
            }
            let left = deadline.saturating_sub(start.elapsed());
            if left.is_zero() {
                return None;
            }
            // An event that came during the probe has raised the count, and ends the wait at once.
            let (events, _) = self
                .shared
                .changed
                .wait_timeout_while(self.shared.events(), left.min(LONGEST_PAUSE), |e| *e == seen)
                .unwrap_or_else(PoisonError::into_inner);
            seen = *events;
        }
    }
}

impl Drop for Hotplug {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // An eventfd takes this write unless its count is at its end.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn events(&self) -> MutexGuard<'_, u64> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_appeared(&self) {
        *self.appeared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn set_coldplugged(&self) {
        self.set_appeared();
        self.coldplugged.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        *self.events() += 1;
        self.changed.notify_all();
    }

    fn go_on(&self) -> bool {
        !self.stopping.load(Ordering::Acquire)
    }
}

fn open(groups: u32) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
    // Needs CAP_NET_ADMIN, which the controller has; without it the default size has to do.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE_BYTES);
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Never waits for a driver, so that the socket's queue does not run over.
fn receive(socket: &OwnedFd, stop: &OwnedFd, shared: &Shared, to_loader: &mpsc::Sender<Work>) {
    let mut buffer = vec![0; EVENT_BYTES];
    while shared.go_on() {
        let mut fds = [
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
        ];
        // Interrupted: the same again.
        let _ = poll(&mut fds, None);
        loop {
            let work = match recvfrom(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _, from)) => {
                    let kernel = from
                        .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                        .is_some_and(|from| from.pid() == 0);
                    if !kernel {
                        // udevd, if it is listened to: news, but no work. Nobody else may speak there.
                        shared.wake();
                        continue;
                    }
                    let message = buffer.get(..length).unwrap_or_default();
                    match Uevent::parse(message) {
                        Some(Uevent { action: "add", hardware, modalias }) => {
                            if hardware {
                                shared.set_appeared();
                            }
                            modalias.map(|modalias| Work::Load(modalias.to_owned()))
                        }
                        _ => None,
                    }
                }
                // Events were lost.
                Err(Errno::NOBUFS) => Some(Work::Scan),
                Err(Errno::INTR) => continue,
                Err(_) => break,
            };
            if let Some(work) = work {
                // The loader ends after this thread, when nobody sends any more. Beside udevd there is none.
                let _ = to_loader.send(work);
            }
            shared.wake();
        }
    }
}

fn load(
    work: &mpsc::Receiver<Work>,
    drivers: &Drivers,
    sys: &std::path::Path,
    shared: &Shared,
    log: &Log,
) {
    while let Ok(work) = work.recv() {
        if !shared.go_on() {
            return;
        }
        match work {
            Work::Scan => {
                drivers.coldplug(sys, log, &|| shared.go_on());
                shared.set_coldplugged();
            }
            Work::Load(modalias) => {
                drivers.load_for(&modalias, log);
            }
        }
    }
}
