//! A server that does what no server should: refuse, hang, or send less than it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// What it does with every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Answers 500.
    Broken,
    /// Takes the connection, and never answers.
    Hangs,
    /// Small files are right; of large ones it sends the first 100 KB and closes, though it announces the whole.
    Less,
}

const LESS: usize = 100_000;

/// Answers on `port` of loopback as `lie` says, until this process ends; `dist` is what it would have to
/// serve. The requests' paths can be received.
pub fn start(port: u16, dist: PathBuf, lie: Lie) -> mpsc::Receiver<String> {
    let listener = bind(port);
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            if lie == Lie::Hangs {
                let _ = sender.send(String::new());
                held.push(stream);
                continue;
            }
            let (dist, sender) = (dist.clone(), sender.clone());
            // A machine that gives up is not the server's affair.
            thread::spawn(move || drop(answer(stream, &dist, lie, &sender)));
        }
    });
    requests
}

/// The port belonged to a server that was just killed.
fn bind(port: u16) -> TcpListener {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return listener,
            Err(e) => assert!(Instant::now() < end, "listening on port {port}: {e}"),
        }
        thread::yield_now();
    }
}

fn answer(
    stream: TcpStream,
    dist: &std::path::Path,
    lie: Lie,
    requests: &mpsc::Sender<String>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    // The rest of the request's head.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let body = fs::read(dist.join(&path)).ok();
    let _ = requests.send(path);
    let mut stream = stream;
    let head = |status: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    match (lie, body) {
        (Lie::Less, Some(body)) => {
            stream.write_all(head("200 OK", body.len()).as_bytes())?;
            stream.write_all(body.get(..LESS).unwrap_or(&body))
        }
        (Lie::Less, None) => stream.write_all(head("404 Not Found", 0).as_bytes()),
        _ => stream.write_all(head("500 Internal Server Error", 0).as_bytes()),
    }
}
