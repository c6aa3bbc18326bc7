//! The server of a lab: the real `gse --serve`, on loopback.

use std::{
    io::{BufRead as _, BufReader, Read},
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    process::{self, Child},
};

/// How long the server may take to say where it listens.
const START: Duration = Duration::from_secs(30);

/// A server that runs; dropping it ends it, in the middle of an answer if need be.
#[derive(Debug)]
pub struct Server {
    port: u16,
    _child: Child,
}

impl Server {
    /// Serves `dist` on loopback, on `port` or, with 0, on a free one.
    pub fn start(gse: &Path, dist: &Path, port: u16) -> Result<Self> {
        Self::start_with(gse, dist, port, |command| command)
    }

    /// The same with further arguments, such as `--tls-cert`.
    pub fn start_with(
        gse: &Path,
        dist: &Path,
        port: u16,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self> {
        let mut command = process::command(gse);
        command.arg(format!("--serve={}:{port}", Ipv4Addr::LOCALHOST)).arg("--dist").arg(dist);
        arguments(&mut command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process::spawn(command)?;
        let (sender, lines) = mpsc::channel();
        let (_, stdout, stderr) = child.pipes();
        if let Some(stdout) = stdout {
            read(stdout, sender.clone());
        }
        if let Some(stderr) = stderr {
            read(stderr, sender);
        }
        let mut said = Vec::new();
        let end = Instant::now() + START;
        while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if let Some(port) = listening(&line) {
                return Ok(Self { port, _child: child });
            }
            said.push(line);
        }
        Err(Error::Command {
            command: child.name().to_owned(),
            status: format!("not listening after {} s", START.as_secs()),
            output: format!("; it said:\n{}", said.join("\n")),
        })
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address for the host.
    pub fn url(&self) -> String {
        format!("http://{}:{}/", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Its address for a machine with a [`crate::Nic`], to which 10.0.2.2 is the host's loopback.
    pub fn url_for_machines(&self) -> String {
        format!("http://10.0.2.2:{}/", self.port)
    }
}

/// Reads on after the first lines too: a server whose pipe is full would stop.
fn read(pipe: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(std::result::Result::ok) {
            drop(lines.send(line));
        }
    });
}

/// The port in a line that names the address on loopback.
fn listening(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::listening;

    #[test]
    fn the_port_is_read_from_what_the_server_says() {
        assert_eq!(listening("serving dist.d on http://127.0.0.1:40123/"), Some(40123));
        assert_eq!(listening("listening on 127.0.0.1:8080"), Some(8080));
        assert_eq!(listening("asked for 127.0.0.1:0"), None);
        assert_eq!(listening("GET /latest.toml"), None);
    }
}
