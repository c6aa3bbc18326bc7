//! The machine's monitor: QMP, one JSON object a line
//! (<https://www.qemu.org/docs/master/interop/qmp-spec.html>).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::error::{Doing, Error, Result};

/// How long QEMU may take to answer. It does at once, but the host may be busy.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection to a machine's monitor.
pub struct Qmp {
    conversation: Mutex<(UnixStream, mpsc::Receiver<Value>)>,
    events: Arc<Events>,
}

#[derive(Default)]
struct Events {
    state: Mutex<(Vec<Value>, bool)>,
    changed: Condvar,
}

impl Qmp {
    /// Takes a connection from QEMU, and says hello.
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        let reader = stream.try_clone().doing(|| "talking to QEMU".to_owned())?;
        let (sender, answers) = mpsc::channel();
        let events = Arc::new(Events::default());
        let theirs = Arc::clone(&events);
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(std::result::Result::ok) {
                match serde_json::from_str::<Value>(&line) {
                    Ok(value) if value.get("event").is_some() => theirs.push(value),
                    Ok(value) if value.get("QMP").is_none() => drop(sender.send(value)),
                    _ => {}
                }
            }
            theirs.close();
        });
        let qmp = Self { conversation: Mutex::new((stream, answers)), events };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns what QEMU answers.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        let mut guard = self.conversation.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, answers) = &mut *guard;
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        stream.write_all(line.as_bytes()).doing(|| format!("sending {command} to QEMU"))?;
        let refused = |message: String| Error::Qmp { command: command.to_owned(), message };
        let answer = answers.recv_timeout(ANSWER).map_err(|e| refused(e.to_string()))?;
        match (answer.get("return"), answer.get("error")) {
            (Some(value), _) => Ok(value.clone()),
            (_, Some(error)) => Err(refused(
                error.get("desc").and_then(Value::as_str).unwrap_or_default().to_owned(),
            )),
            _ => Err(refused(format!("an answer that makes no sense: {answer}"))),
        }
    }

    /// Waits for an event that fits, whether it comes or has come; `None` when QEMU ends or time is up.
    pub fn wait_event(&self, fits: impl Fn(&Value) -> bool, timeout: Duration) -> Option<Value> {
        let end = Instant::now() + timeout;
        let mut state = self.events.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (events, closed) = &*state;
            let left = end.saturating_duration_since(Instant::now());
            match events.iter().find(|e| fits(e)) {
                Some(event) => return Some(event.clone()),
                None if *closed || left.is_zero() => return None,
                None => {}
            }
            let waited = self.events.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Events {
    fn push(&self, event: Value) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.push(event);
        self.changed.notify_all();
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }
}

/// Whether the event has this name.
pub(crate) fn is(event: &Value, name: &str) -> bool {
    event.get("event").and_then(Value::as_str) == Some(name)
}
