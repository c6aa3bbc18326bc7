//! A machine that runs.

use std::{
    io::{BufRead as _, BufReader, Read},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    console::Console,
    device::{Disk, Nic, drive_of, net_of},
    error::{Doing, Error, Result},
    process::{self, Child},
    qmp::{self, Qmp},
    spec::{ACCEL, HOT_SLOTS, Spec, slot_name},
};

/// How long QEMU may take to start: it does in a tenth of a second, but the host may be busy.
const START: Duration = Duration::from_secs(60);

/// A machine that runs; dropping it pulls the plug.
pub struct Machine {
    /// Its console.
    pub console: Console,
    qmp: Qmp,
    child: Mutex<Child>,
    ended: Arc<OwnedFd>,
    slots: AtomicUsize,
    names: AtomicUsize,
    // Last, so that QEMU has ended when its socket goes.
    _dir: TempDir,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It switched itself off.
    Shutdown,
    /// It rebooted, after an orderly shutdown or a kernel panic.
    Reset,
    /// The plug was pulled.
    PowerCut,
    /// QEMU itself failed.
    Failed(String),
}

/// Something that was plugged in while the machine ran.
#[derive(Debug)]
pub struct Plugged {
    id: String,
}

impl Spec {
    /// Switches the machine on.
    pub fn start(&self) -> Result<Machine> {
        for (path, advice) in [
            (&self.kernel, "scripts/fixture-kernel fetches one"),
            (&self.initrd, "gse --build-controller makes one"),
        ] {
            if !path.is_file() {
                return Err(Error::Missing { path: path.clone(), advice: advice.to_owned() });
            }
        }
        let dir = tempfile::Builder::new().prefix("gse-machine-").tempdir();
        let dir = dir.doing(|| "making a temporary directory".to_owned())?;
        let monitor = dir.path().join("monitor");
        let listener =
            UnixListener::bind(&monitor).doing(|| format!("listening on {}", monitor.display()))?;

        let accel = std::env::var(ACCEL).ok();
        let mut command = process::command("qemu-system-x86_64");
        command
            .args(self.arguments(&monitor, accel.as_deref())?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = process::spawn(command)?;
        let qmp = accept(&listener, &child).and_then(Qmp::new);
        let (Some(input), Some(output), Some(errors)) = child.pipes() else {
            return Err(Error::Impossible("QEMU was started without pipes".to_owned()));
        };
        let qmp = match qmp {
            Ok(qmp) => qmp,
            Err(error) => return Err(died(child, errors).unwrap_or(error)),
        };
        std::thread::spawn(move || pass_on_warnings(errors));
        Ok(Machine {
            console: Console::new(started, input, output),
            qmp,
            ended: child.pidfd(),
            child: Mutex::new(child),
            slots: AtomicUsize::new(if self.hot_plug { 0 } else { HOT_SLOTS }),
            names: AtomicUsize::new(0),
            _dir: dir,
        })
    }
}

/// Waits for QEMU to connect.
fn accept(listener: &UnixListener, child: &Child) -> Result<UnixStream> {
    let pidfd = child.pidfd();
    let ready = process::readable(&[listener.as_fd(), pidfd.as_fd()], START)
        .doing(|| "waiting for QEMU".to_owned())?;
    if ready.first() == Some(&true) {
        return listener.accept().map(|(stream, _)| stream).doing(|| "talking to QEMU".to_owned());
    }
    Err(Error::Impossible(format!("QEMU did not start in {} s", START.as_secs())))
}

/// Why QEMU ended, if it did.
fn died(mut child: Child, mut errors: impl Read) -> Option<Error> {
    let status = child.wait_timeout(Duration::from_secs(1)).ok().flatten()?;
    let mut said = String::new();
    // What it said is an extra; its status is known.
    let _ = errors.read_to_string(&mut said);
    let output = format!("; it said:\n{}", said.trim_end());
    Some(Error::Command { command: child.name().to_owned(), status: status.to_string(), output })
}

/// QEMU's warnings, but for those about features of a processor that emulation lacks.
fn pass_on_warnings(errors: impl Read) {
    for line in BufReader::new(errors).lines().map_while(std::result::Result::ok) {
        if !line.contains("doesn't support requested feature") {
            eprintln!("{line}");
        }
    }
}

impl Machine {
    /// Presses the power button for a moment. What the system makes of it is its own affair.
    pub fn power_button(&self) -> Result<()> {
        self.qmp.execute("system_powerdown", json!({})).map(drop)
    }

    /// Presses Ctrl-Alt-Del on the machine's keyboard, which init takes as a wish to shut down.
    pub fn ctrl_alt_del(&self) -> Result<()> {
        let key = |name: &str| json!({ "type": "qcode", "data": name });
        let keys = json!({ "keys": [key("ctrl"), key("alt"), key("delete")] });
        self.qmp.execute("send-key", keys).map(drop)
    }

    /// Sends a break down the serial line, and then `key`: a magic SysRq, which the kernel obeys without asking any
    /// program, such as `i`, which kills all of them but init. The kernel has to be told `sysrq_always_enabled`.
    pub fn sysrq(&self, key: char) -> Result<()> {
        self.qmp.execute("chardev-send-break", json!({ "id": "serial0" }))?;
        self.console.send(key.to_string().as_bytes())
    }

    /// Presses the reset button.
    pub fn reset(&self) -> Result<()> {
        self.qmp.execute("system_reset", json!({})).map(drop)
    }

    /// Pulls the plug.
    pub fn cut_power(&self) -> Result<()> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).kill()
    }

    /// Pulls out, or plugs in, the cable of the network card that was given as the `nth`, from 0.
    pub fn set_cable(&self, nth: usize, plugged: bool) -> Result<()> {
        let arguments = json!({ "name": format!("nic{nth}"), "up": plugged });
        self.qmp.execute("set_link", arguments).map(drop)
    }

    /// Plugs a disk in. The machine needs [`Spec::hot_plug`].
    pub fn plug_disk(&self, disk: &Disk) -> Result<Plugged> {
        let id = self.name();
        let slot = if disk.is_pci() { Some(self.slot()?) } else { None };
        self.qmp.execute("blockdev-add", disk.blockdev(&id)?)?;
        self.qmp.execute("device_add", disk.device(&id, slot.as_deref()))?;
        Ok(Plugged { id })
    }

    /// Plugs a network card in. The machine needs [`Spec::hot_plug`].
    pub fn plug_nic(&self, nic: &Nic) -> Result<Plugged> {
        let id = self.name();
        let slot = if nic.is_pci() { Some(self.slot()?) } else { None };
        self.qmp.execute("netdev_add", nic.netdev(&id))?;
        self.qmp.execute("device_add", nic.device(&id, slot.as_deref()))?;
        Ok(Plugged { id })
    }

    /// Pulls out what was plugged in, and waits until the machine has let go of it.
    pub fn unplug(&self, plugged: Plugged, timeout: Duration) -> Result<()> {
        let id = plugged.id;
        self.qmp.execute("device_del", json!({ "id": id }))?;
        let gone = |event: &Value| {
            qmp::is(event, "DEVICE_DELETED")
                && event.pointer("/data/device").and_then(Value::as_str) == Some(&id)
        };
        if self.qmp.wait_event(gone, timeout).is_none() {
            let what = format!("the machine to let go of {id}");
            return Err(Error::Timeout { what, after: timeout, tail: self.console.tail() });
        }
        // One of the two is there.
        let drive = self.qmp.execute("blockdev-del", json!({ "node-name": drive_of(&id) }));
        drive.or_else(|_| self.qmp.execute("netdev_del", json!({ "id": net_of(&id) }))).map(drop)
    }

    fn name(&self) -> String {
        format!("plugged{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    fn slot(&self) -> Result<String> {
        let nth = self.slots.fetch_add(1, Ordering::Relaxed);
        if nth < HOT_SLOTS {
            return Ok(slot_name(nth));
        }
        Err(Error::Impossible(format!(
            "no slot is left: a machine with hot_plug() takes {HOT_SLOTS} PCI devices, others take none"
        )))
    }

    /// What its processors are at, as QEMU shows their registers: of a machine that says nothing any more, this tells one that
    /// waits from one that turns in a circle.
    pub fn processors(&self) -> Result<String> {
        let command = json!({ "command-line": "info registers -a" });
        let shown = self.qmp.execute("human-monitor-command", command)?;
        Ok(shown.as_str().unwrap_or_default().to_owned())
    }

    /// Whether its hardware watchdog has acted.
    pub fn watchdog_acted(&self) -> bool {
        self.qmp.wait_event(|e| qmp::is(e, "WATCHDOG"), Duration::ZERO).is_some()
    }

    /// Waits for the machine to end.
    pub fn wait_exit(&self, timeout: Duration) -> Result<Exit> {
        // Unlocked while it waits, so that someone else can pull the plug.
        process::readable(&[self.ended.as_fd()], timeout)
            .doing(|| "waiting for QEMU".to_owned())?;
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(status) = child.wait_timeout(Duration::ZERO)? else {
            let what = "the machine's end".to_owned();
            return Err(Error::Timeout { what, after: timeout, tail: self.console.tail() });
        };
        // What it said last may still be on its way through the pipe.
        self.console.wait_closed(START);
        let event = self.qmp.wait_event(|e| qmp::is(e, "SHUTDOWN"), START);
        Ok(exit(status, event.as_ref()))
    }
}

/// What QEMU's own exit status and its last words mean
/// (<https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html#qapidoc-SHUTDOWN>).
fn exit(status: ExitStatus, event: Option<&Value>) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    if status.signal() == Some(9) {
        return Exit::PowerCut;
    }
    match event.and_then(|e| e.pointer("/data/reason")).and_then(Value::as_str) {
        Some("guest-shutdown") => Exit::Shutdown,
        Some("guest-reset" | "guest-panic" | "host-qmp-system-reset") => Exit::Reset,
        reason => Exit::Failed(format!("{status}, {}", reason.unwrap_or("no reason given"))),
    }
}
