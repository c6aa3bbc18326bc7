//! A person's terminal as the console of a machine.

use std::{
    io::{self, Read as _},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use gse_qemu::Machine;
use rustix::termios::{self, OptionalActions, Termios};

/// What the person should know.
pub(crate) const HELP: &str = "lab: This terminal is now the machine's console. In the lab's own tree, root's password is \"gse\".
lab: Ctrl-A d  Ctrl-Alt-Del: the machine shuts down     Ctrl-A x  pull the plug, and leave
lab: Ctrl-A p  the power button                         Ctrl-A Ctrl-A  send Ctrl-A";

/// Longer than anybody stays.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

const CTRL_A: u8 = 1;

/// Standard input, as it was.
pub(crate) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Standard input, if a person is there.
    pub(crate) fn of_stdin() -> Result<Self> {
        if !termios::isatty(io::stdin()) {
            bail!("a console needs a terminal, and standard input is none: run this from a shell");
        }
        let before = termios::tcgetattr(io::stdin()).map_err(io::Error::from);
        Ok(Self { before: before.context("reading the terminal's settings")? })
    }

    /// Connects the two until the machine ends.
    pub(crate) fn attach(&self, machine: Machine) -> Result<()> {
        let machine = Arc::new(machine);
        machine.console.mirror(io::stdout());
        let _raw = Raw::new(&self.before)?;
        let typist = Arc::clone(&machine);
        // Ends with the process: nothing can interrupt a read from a terminal.
        thread::spawn(move || type_into(&typist));
        machine.wait_exit(FOREVER)?;
        print!("\r\n");
        Ok(())
    }
}

/// What is typed, to be sent or done.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Send(u8),
    PullThePlug,
    CtrlAltDel,
    PowerButton,
}

/// Reads keys, with Ctrl-A as the escape.
#[derive(Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    fn press(&mut self, byte: u8) -> Option<Key> {
        if !std::mem::take(&mut self.escaped) {
            self.escaped = byte == CTRL_A;
            return (!self.escaped).then_some(Key::Send(byte));
        }
        match byte {
            b'x' => Some(Key::PullThePlug),
            b'd' => Some(Key::CtrlAltDel),
            b'p' => Some(Key::PowerButton),
            CTRL_A => Some(Key::Send(CTRL_A)),
            _ => None,
        }
    }
}

fn type_into(machine: &Machine) {
    let mut keys = Keys::default();
    for byte in io::stdin().lock().bytes().map_while(io::Result::ok) {
        let done = match keys.press(byte) {
            Some(Key::Send(byte)) => machine.console.send(&[byte]),
            Some(Key::PullThePlug) => machine.cut_power(),
            Some(Key::CtrlAltDel) => machine.ctrl_alt_del(),
            Some(Key::PowerButton) => machine.power_button(),
            None => Ok(()),
        };
        // The machine has ended, which the other thread sees too.
        if done.is_err() {
            return;
        }
    }
}

/// Every key is the machine's, until this is dropped.
struct Raw<'t> {
    before: &'t Termios,
}

impl<'t> Raw<'t> {
    fn new(before: &'t Termios) -> Result<Self> {
        let mut raw = before.clone();
        raw.make_raw();
        set(&raw).context("giving every key to the machine")?;
        Ok(Self { before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Err(e) = set(self.before) {
            eprintln!("gse-lab: putting the terminal back as it was: {e}; `reset` does it");
        }
    }
}

fn set(settings: &Termios) -> io::Result<()> {
    Ok(termios::tcsetattr(io::stdin(), OptionalActions::Drain, settings)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn ctrl_a_is_the_escape_and_can_be_sent_by_typing_it_twice() {
        let mut keys = Keys::default();
        let pressed: Vec<Key> =
            b"a\x01z\x01\x01\x01x".iter().filter_map(|b| keys.press(*b)).collect();
        assert_eq!(pressed, [Key::Send(b'a'), Key::Send(CTRL_A), Key::PullThePlug]);
    }
}
