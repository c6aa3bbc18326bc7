//! Passwords: from the environment, or from the person at the terminal.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The environment variable that holds the password of the secret key, for jobs without a terminal.
pub const VARIABLE: &str = "GSE_KEY_PASSWORD";

/// A password. It is never printed.
pub struct Password(String);

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody to ask.
    #[error("there is no terminal to ask on; set {VARIABLE}")]
    NoTerminal(#[source] io::Error),
    /// The terminal failed.
    #[error("reading from the terminal")]
    Terminal(#[from] io::Error),
    /// The password was typed differently the second time.
    #[error("the two passwords differ; try again")]
    Different,
    /// Nothing was typed.
    #[error("the password is empty; give one, or leave --password out")]
    Empty,
}

impl Password {
    /// Takes text that came from elsewhere.
    pub fn new(text: String) -> Result<Self, Error> {
        if text.is_empty() { Err(Error::Empty) } else { Ok(Self(text)) }
    }

    pub(crate) fn into_inner(self) -> String {
        self.0
    }
}

/// The password of an existing key: [`VARIABLE`], or else typed at the terminal.
pub fn ask() -> Result<Password, Error> {
    match std::env::var(VARIABLE) {
        Ok(text) => Password::new(text),
        Err(_) => Password::new(Terminal::open()?.read_hidden("Password of the secret key: ")?),
    }
}

/// A new key's password: [`VARIABLE`], or else typed twice at the terminal.
pub fn choose() -> Result<Password, Error> {
    if let Ok(text) = std::env::var(VARIABLE) {
        return Password::new(text);
    }
    let mut terminal = Terminal::open()?;
    let first = terminal.read_hidden("Password for the new key: ")?;
    if first != terminal.read_hidden("The same again: ")? {
        return Err(Error::Different);
    }
    Password::new(first)
}

/// The controlling terminal, whatever standard input and output are.
struct Terminal(BufReader<File>);

impl Terminal {
    fn open() -> Result<Self, Error> {
        let file = File::options().read(true).write(true).open("/dev/tty");
        file.map(|f| Self(BufReader::new(f))).map_err(Error::NoTerminal)
    }

    fn read_hidden(&mut self, prompt: &str) -> Result<String, Error> {
        let mut line = String::new();
        {
            // First, so that nothing is echoed or thrown away that is typed when the prompt is there.
            let _hidden = Hidden::new(self.0.get_ref())?;
            write!(self.0.get_mut(), "{prompt}")?;
            self.0.read_line(&mut line)?;
        }
        writeln!(self.0.get_mut())?;
        line.truncate(line.trim_end_matches(['\n', '\r']).len());
        Ok(line)
    }
}

/// The terminal does not echo while this lives.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn new(terminal: &File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut without = before.clone();
        without.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &without)?;
        Ok(Self { terminal: terminal.try_clone()?, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Err(e) = tcsetattr(&self.terminal, OptionalActions::Now, &self.before) {
            eprintln!("gse: the terminal stays silent ({e}); type: stty echo");
        }
    }
}
