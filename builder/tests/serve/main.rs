//! The embedded server, spoken to by real clients: curl, ureq, and raw sockets for what those refuse
//! to send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bounds;
mod https;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use gse::serve::{Error, Limits, Options, Server, Tls};
use tempfile::TempDir;

/// Bytes that differ from place to place, so that a range from the wrong place shows.
fn content(length: usize) -> Vec<u8> {
    (0..length as u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(length)
        .collect()
}

fn dist() -> TempDir {
    let dist = tempfile::tempdir().unwrap();
    let path = dist.path();
    fs::create_dir_all(path.join("images/lab-1")).unwrap();
    fs::write(path.join("images/lab-1/system.tar.zst"), content(3_000_000)).unwrap();
    fs::write(path.join("latest.toml"), "format = 1\n").unwrap();
    fs::write(path.join(".hidden"), "secret").unwrap();
    fs::create_dir(path.join(".git")).unwrap();
    fs::write(path.join(".git/config"), "secret").unwrap();
    symlink("images/lab-1/system.tar.zst", path.join("inside")).unwrap();
    symlink("/etc/passwd", path.join("absolute")).unwrap();
    symlink("../../../../../../etc/passwd", path.join("relative")).unwrap();
    symlink("/etc", path.join("folder")).unwrap();
    symlink("loop", path.join("loop")).unwrap();
    let pipe = path.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .unwrap();
    dist
}

/// A server in this process, stopped when dropped.
struct Running {
    address: SocketAddr,
    url: String,
    stop: Option<tokio::sync::mpsc::UnboundedSender<()>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Running {
    fn new(dist: &Path) -> Self {
        Self::start(dist, None, Limits::default())
    }

    fn start(dist: &Path, tls: Option<Tls>, limits: Limits) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let options = Options { address, dist: dist.to_owned(), tls, limits };
        let server = Server::bind(&options).unwrap();
        let (address, url) = (server.address(), server.url());
        let (stop, mut stopped) = tokio::sync::mpsc::unbounded_channel();
        let thread = thread::spawn(move || server.run(async || _ = stopped.recv().await));
        Self { address, url, stop: Some(stop), thread: Some(thread) }
    }

    /// Asks it to stop, and lets running downloads end.
    fn stop(&self) {
        self.stop.as_ref().unwrap().send(()).unwrap();
    }

    fn wait(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    fn raw(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// The whole answer to `request`, after which the server has closed the connection.
    fn answer(&self, request: &str) -> String {
        let mut answer = Vec::new();
        self.raw(request).read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn curl(&self, arguments: &[&str], path: &str) -> String {
        let url = format!("{}{path}", self.url);
        let output = Command::new("curl")
            .args(["-sS", "--path-as-is", "--max-time", "20"])
            .args(arguments)
            .arg(url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The status of the answer to a request for an image by a client with this address.
    fn status_for(&self, client: &str) -> String {
        self.curl(&["-o", "/dev/null", "-w", "%{http_code}", "--interface", client], FILE)
    }

    /// Asks for an image until there is a place for that.
    fn wait_for_a_place(&self) {
        let start = Instant::now();
        loop {
            match self.status_for("127.0.0.1").as_str() {
                "503" => assert!(start.elapsed() < Duration::from_secs(20), "no place is free"),
                status => return assert_eq!(status, "200"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const FILE: &str = "images/lab-1/system.tar.zst";

#[test]
fn only_what_is_published_can_be_reached() {
    let dist = dist();
    let server = Running::new(dist.path());
    for (path, status) in [
        ("latest.toml", "200"),
        (FILE, "200"),
        ("inside", "200"),
        ("latest%2etoml", "200"),
        ("latest.toml?query", "200"),
        ("", "404"),
        ("images", "404"),
        ("images/", "404"),
        ("images/lab-1/", "404"),
        ("missing", "404"),
        ("latest.toml/", "404"),
        ("latest.toml/x", "404"),
        (".hidden", "404"),
        ("%2ehidden", "404"),
        (".git/config", "404"),
        ("images/../.git/config", "404"),
        ("absolute", "404"),
        ("relative", "404"),
        ("folder/passwd", "404"),
        ("loop", "404"),
        ("pipe", "404"),
        ("../../etc/passwd", "404"),
        ("%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "404"),
        ("..%2f..%2f..%2f..%2fetc%2fpasswd", "404"),
        ("images/%2e%2e%2f%2e%2e%2fetc/passwd", "404"),
        ("/etc/passwd", "404"),
        ("%2fetc/passwd", "404"),
        ("..%5c..%5cetc%5cpasswd", "404"),
        ("latest.toml%00.txt", "404"),
        ("%ff%fe", "404"),
    ] {
        for method in [&[] as &[_], &["-I"]] {
            let arguments = [&["-o", "/dev/null", "-w", "%{http_code}"], method].concat();
            assert_eq!(server.curl(&arguments, path), status, "{path:?} {method:?}");
        }
    }
    let long = "x".repeat(300);
    assert_eq!(server.curl(&["-o", "/dev/null", "-w", "%{http_code}"], &long), "404");
}

#[test]
fn a_dist_that_is_replaced_as_a_whole_is_served_anew() {
    let parent = tempfile::tempdir().unwrap();
    let dist = parent.path().join("dist.d");
    fs::create_dir(&dist).unwrap();
    fs::write(dist.join("a"), "old").unwrap();
    let server = Running::new(&dist);
    assert_eq!(server.curl(&[], "a"), "old");
    fs::rename(&dist, parent.path().join("dist.old")).unwrap();
    fs::create_dir(&dist).unwrap();
    fs::write(dist.join("a"), "new").unwrap();
    assert_eq!(server.curl(&[], "a"), "new");
}

#[test]
fn ranges_give_the_bytes_that_were_asked_for() {
    let dist = dist();
    let server = Running::new(dist.path());
    let whole = content(3_000_000);
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    for (range, status, bytes, said) in [
        ("bytes=0-0", 206, 0..1, "bytes 0-0/3000000"),
        ("bytes=100-199", 206, 100..200, "bytes 100-199/3000000"),
        ("bytes=2999999-", 206, 2_999_999..3_000_000, "bytes 2999999-2999999/3000000"),
        ("bytes=-7", 206, 2_999_993..3_000_000, "bytes 2999993-2999999/3000000"),
        ("bytes=2999990-9999999", 206, 2_999_990..3_000_000, "bytes 2999990-2999999/3000000"),
        ("bytes=3000000-", 416, 0..0, "bytes */3000000"),
        ("bytes=5-4", 416, 0..0, "bytes */3000000"),
        ("bytes=0-1,4-5", 200, 0..3_000_000, ""),
    ] {
        let mut answer =
            agent.get(format!("{}{FILE}", server.url)).header("Range", range).call().unwrap();
        assert_eq!(answer.status(), status, "{range}");
        let found = answer.headers().get("content-range").map(|v| v.to_str().unwrap());
        assert_eq!(found.unwrap_or_default(), said, "{range}");
        assert_eq!(answer.headers()["accept-ranges"], "bytes", "{range}");
        assert!(answer.body_mut().read_to_vec().unwrap() == whole[bytes], "{range}");
    }
}

#[test]
fn head_tells_the_length_and_sends_nothing() {
    let dist = dist();
    let server = Running::new(dist.path());
    let answer = server.answer(&format!("HEAD /{FILE} HTTP/1.0\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-length: 3000000\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn only_images_are_cached_without_asking_again() {
    let dist = dist();
    let server = Running::new(dist.path());
    let immutable = "public, max-age=31536000, immutable";
    for (path, control) in
        [(FILE, immutable), ("latest.toml", "no-cache"), ("images/lab-2/x", "no-cache")]
    {
        let found = server.curl(&["-o", "/dev/null", "-w", "%header{cache-control}"], path);
        assert_eq!(found, control, "{path}");
    }
}

#[test]
fn files_are_never_sent_in_another_encoding() {
    let dist = dist();
    fs::write(dist.path().join("latest.toml.gz"), "packed").unwrap();
    let server = Running::new(dist.path());
    let found = server.curl(&["-D-", "-H", "Accept-Encoding: gzip, br, zstd"], "latest.toml");
    assert!(found.ends_with("\r\n\r\nformat = 1\n"), "{found}");
    assert!(!found.contains("content-encoding"), "{found}");
}

#[test]
fn what_a_client_has_already_is_not_sent_again() {
    let dist = dist();
    let server = Running::new(dist.path());
    let tag = server.curl(&["-o", "/dev/null", "-w", "%header{etag}"], FILE);
    let date = server.curl(&["-o", "/dev/null", "-w", "%header{last-modified}"], FILE);
    assert!(tag.starts_with('"'), "{tag}");
    for (header, status) in [
        (format!("If-None-Match: {tag}"), "304 0"),
        (format!("If-Modified-Since: {date}"), "304 0"),
        ("If-None-Match: \"other\"".to_owned(), "200 3000000"),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT".to_owned(), "200 3000000"),
        ("If-Match: \"other\"".to_owned(), "412 0"),
    ] {
        let format = "%{http_code} %{size_download}";
        let found = server.curl(&["-o", "/dev/null", "-w", format, "-H", &header], FILE);
        assert_eq!(found, status, "{header}");
    }
    // The file changes under its name: the old tag no longer fits.
    fs::write(dist.path().join(FILE), "changed").unwrap();
    assert_eq!(server.curl(&["-H", &format!("If-None-Match: {tag}")], FILE), "changed");
}

#[test]
fn a_download_goes_on_only_where_the_file_is_still_the_same() {
    let dist = dist();
    let server = Running::new(dist.path());
    let tag = server.curl(&["-o", "/dev/null", "-w", "%header{etag}"], FILE);
    let date = server.curl(&["-o", "/dev/null", "-w", "%header{last-modified}"], FILE);
    let format = "%{http_code} %{size_download}";
    for (version, found) in [(&tag[..], "206 10"), (&date, "206 10"), ("\"other\"", "200 3000000")]
    {
        let condition = format!("If-Range: {version}");
        let arguments = ["-o", "/dev/null", "-w", format, "-r", "10-19", "-H", &condition];
        assert_eq!(server.curl(&arguments, FILE), found, "{version}");
    }
}

#[test]
fn two_hundred_clients_fetch_ranges_at_once() {
    let dist = dist();
    let server = Running::new(dist.path());
    let url: Arc<str> = format!("{}{FILE}", server.url).into();
    let whole: Arc<[u8]> = content(3_000_000).into();
    let clients: Vec<_> = (0..200)
        .map(|client: usize| {
            let (url, whole) = (Arc::clone(&url), Arc::clone(&whole));
            thread::spawn(move || {
                let agent = ureq::Agent::new_with_defaults();
                for turn in 0..10 {
                    let start = (client * 14_000 + turn * 31_337) % 2_900_000;
                    let range = format!("bytes={start}-{}", start + 99_999);
                    let mut answer = agent.get(&*url).header("Range", range).call().unwrap();
                    let bytes = answer.body_mut().read_to_vec().unwrap();
                    assert!(bytes == whole[start..start + 100_000], "client {client}, {start}");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn many_requests_go_over_one_connection() {
    let dist = dist();
    let server = Running::new(dist.path());
    let request = "GET /latest.toml HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /latest.toml HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = server.answer(&format!("{}{last}", request.repeat(20)));
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 21);
}

#[test]
fn requests_that_mean_harm_get_an_error_and_the_server_lives() {
    let dist = dist();
    let server = Running::new(dist.path());
    let huge = format!("GET /latest.toml HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(200 << 10));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000));
    for (request, status) in [
        ("GET /../../etc/passwd HTTP/1.0\r\n\r\n", "404"),
        ("GET /..//..//etc/passwd HTTP/1.0\r\n\r\n", "404"),
        ("GET http://other/../etc/passwd HTTP/1.0\r\n\r\n", "404"),
        ("POST /latest.toml HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "405"),
        ("PUT /latest.toml HTTP/1.0\r\n\r\n", "405"),
        ("DELETE /latest.toml HTTP/1.0\r\n\r\n", "405"),
        ("CONNECT other:443 HTTP/1.0\r\n\r\n", "4"),
        ("GET latest.toml HTTP/1.0\r\n\r\n", "4"),
        ("nonsense\r\n\r\n", "400"),
        ("\x16\x03\x01\x02\x00\x01", "400"),
    ] {
        let answer = server.answer(request);
        let found = answer.split(' ').nth(1).unwrap_or_default();
        assert!(found.starts_with(status), "{request:?}: {answer:?}");
        assert!(!answer.contains("root:"), "{request:?}");
    }
    // The start of HTTP/2, whose many streams over one connection would be past all bounds.
    assert_eq!(server.answer("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "");
    // These are cut off while they are still sending, so all that is certain is who survives.
    for request in [huge, many] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let _ = stream.write_all(request.as_bytes());
        let mut answer = [0; 12];
        if stream.read_exact(&mut answer).is_ok() {
            assert_eq!(&answer, b"HTTP/1.1 431");
        }
    }
    assert_eq!(server.curl(&[], "latest.toml"), "format = 1\n");
}

#[test]
fn a_stopped_server_ends_its_downloads_and_takes_no_more() {
    let dist = dist();
    let length = 32 << 20;
    fs::File::create(dist.path().join("large")).unwrap().set_len(length).unwrap();
    let server = Running::new(dist.path());
    let mut stream = server.raw("GET /large HTTP/1.0\r\n\r\n");
    stream.read_exact(&mut [0; 4096]).unwrap();
    server.stop();
    while TcpStream::connect(server.address).is_ok() {
        thread::yield_now();
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(4096 + rest.len() as u64 > length, "{} bytes", rest.len());
    server.wait();
}

#[test]
fn a_download_that_does_not_end_does_not_keep_a_stopped_server() {
    let dist = dist();
    fs::File::create(dist.path().join("large")).unwrap().set_len(64 << 20).unwrap();
    let limits = Limits { grace: Duration::from_millis(200), ..Limits::default() };
    let server = Running::start(dist.path(), None, limits);
    let mut stream = server.raw("GET /large HTTP/1.0\r\n\r\n");
    stream.read_exact(&mut [0; 4096]).unwrap();
    server.stop();
    server.wait();
}

/// A certificate for 127.0.0.1 by itself, as `(certificate, key)` in PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn tls(folder: &Path, certificate: &str, key: &str) -> Tls {
    let tls = Tls { certificates: folder.join("cert.pem"), key: folder.join("key.pem") };
    fs::write(&tls.certificates, certificate).unwrap();
    fs::write(&tls.key, key).unwrap();
    tls
}

#[test]
fn what_cannot_be_served_is_said_in_a_sentence() {
    let (dist, folder) = (dist(), tempfile::tempdir().unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mine, mine_key) = certificate();
    let (_, other_key) = certificate();
    let options = |address: &str, dist: &Path, tls| Options {
        address: address.parse().unwrap(),
        dist: dist.to_owned(),
        tls,
        limits: Limits::default(),
    };
    let port = taken.local_addr().unwrap().to_string();
    let missing = folder.path().join("missing");
    let made = |name: &str, certificate: &str, key: &str| {
        fs::create_dir(folder.path().join(name)).unwrap();
        Some(tls(&folder.path().join(name), certificate, key))
    };
    for (options, sentence) in [
        (options(&port, dist.path(), None), "another program uses that port"),
        (options("127.0.0.1:0", &missing, None), "`gse --archive` and `gse --publish-config` make"),
        (options("192.0.2.7:0", dist.path(), None), "names an address of this machine"),
        (
            options("127.0.0.1:0", dist.path(), made("a", &mine, &other_key)),
            "does not belong to the first certificate",
        ),
        (options("127.0.0.1:0", dist.path(), made("b", "", &mine_key)), "no certificate in it"),
        (options("127.0.0.1:0", dist.path(), made("c", &mine, &mine)), "reading the private key"),
        (
            options(
                "127.0.0.1:0",
                dist.path(),
                Some(Tls { certificates: missing.clone(), key: missing.clone() }),
            ),
            "reading the certificates",
        ),
    ] {
        let error = Server::bind(&options).unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    }
}

/// The command itself, ended when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_command_says_where_it_listens_and_stops_on_a_signal() {
    use rustix::process::{Pid, Signal, kill_process};
    let dist = dist();
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = Program(
            Command::new(env!("CARGO_BIN_EXE_gse"))
                .arg("--serve=127.0.0.1:0")
                .arg("--dist")
                .arg(dist.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let url = first.strip_prefix("listening on ").unwrap();
        let second = lines.next().unwrap().unwrap();
        assert!(second.ends_with(": no release yet, no configuration yet"), "{second}");
        let fetched = ureq::get(format!("{url}latest.toml")).call().unwrap();
        assert_eq!(fetched.status(), 200);
        kill_process(Pid::from_child(&program.0), signal).unwrap();
        assert!(program.0.wait().unwrap().success());
        assert_eq!(lines.next().unwrap().unwrap(), "stopped");
    }
}
