//! An HTTP server that lies as it is told to.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// What a server does with one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// What was asked for.
    Right,
    /// Nothing at all, until the client gives up.
    Hang,
    /// So many bytes of the body, and then nothing until the client gives up.
    HangAfter(usize),
    /// So many bytes of the body, and then the connection is cut.
    CutAfter(usize),
    /// What was asked for, in pieces of so many bytes, each after so many milliseconds.
    Slowly(usize, u64),
    /// An error.
    Status(u16),
    /// Too much to do, for so many seconds.
    Busy(u32),
    /// The whole file, whatever range was asked for.
    IgnoreRange,
    /// The right bytes under a `Content-Range` that is one byte off.
    WrongRange,
    /// So many bytes more than were asked for, under a `Content-Range` that does not tell.
    More(usize),
    /// So many bytes fewer, under a `Content-Range` that does not tell.
    Fewer(usize),
    /// A range that starts so many bytes before the one that was asked for, and says so.
    Overlap(usize),
    /// The file packed by gzip, whatever the client said that it accepts.
    Gzip,
    /// The file with a bit flipped at this offset.
    Flip(usize),
    /// The same, of which so many bytes come before the connection is cut.
    FlipAndCut(usize, usize),
    /// Another file instead.
    Instead(Vec<u8>),
    /// A redirect.
    Redirect(String),
}

/// How many kinds of answers [`Answer::of`] gives.
pub const KINDS: u8 = 14;

impl Answer {
    /// An answer to this request for a file with `length` bytes: anything but silence, as chance chooses `kind`, below
    /// [`KINDS`], and `number`.
    pub fn of(kind: u8, number: u32, request: &Request, length: usize) -> Self {
        let at = number as usize % length;
        match kind {
            0 => Self::CutAfter(at),
            1 => Self::Flip(at),
            2 => Self::IgnoreRange,
            3 if request.from.is_some_and(|from| from > 0) => Self::WrongRange,
            4 => Self::Status(500),
            5 => Self::Busy(0),
            6 => Self::More(at),
            7 => Self::Fewer(at),
            8 => Self::Overlap(at),
            9 => Self::Gzip,
            10 => Self::Instead(vec![kind; at]),
            _ => Self::Right,
        }
    }
}

/// One request, as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    /// Where the range that was asked for starts.
    pub from: Option<usize>,
    /// Its last byte, if it was asked for.
    pub last: Option<usize>,
    /// How many requests came before.
    pub number: usize,
}

type Decide = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    files: Mutex<HashMap<String, Vec<u8>>>,
    decide: Box<Decide>,
    log: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

/// A server on a port of its own; gone when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn honest(files: &[(&str, &[u8])]) -> Self {
        Self::new(files, |_| Answer::Right)
    }

    pub fn new(
        files: &[(&str, &[u8])],
        decide: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files =
            files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        let shared = Arc::new(Shared {
            files: Mutex::new(files),
            decide: Box::new(decide),
            log: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&accepting);
                let stream = stream.unwrap();
                // Ends when the client hangs up, which every client here does.
                thread::spawn(move || {
                    let _ = shared.serve(&stream, &stream);
                });
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), bytes.to_vec());
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Serves one connection of any kind, for the test with TLS.
pub fn serve_one(files: &[(&str, &[u8])], stream: impl Read + Write) {
    let (read, write) = split(stream);
    let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
    let shared = Shared {
        files: Mutex::new(files),
        decide: Box::new(|_| Answer::Right),
        log: Mutex::default(),
        stopped: AtomicBool::new(false),
    };
    let _ = shared.serve(read, write);
}

fn split(stream: impl Read + Write) -> (impl Read, impl Write) {
    struct Half<S>(std::rc::Rc<std::cell::RefCell<S>>);
    impl<S: Read> Read for Half<S> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().read(buffer)
        }
    }
    impl<S: Write> Write for Half<S> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.borrow_mut().flush()
        }
    }
    let shared = std::rc::Rc::new(std::cell::RefCell::new(stream));
    (Half(std::rc::Rc::clone(&shared)), Half(shared))
}

impl Shared {
    fn serve(&self, read: impl Read, mut write: impl Write) -> std::io::Result<()> {
        let mut read = BufReader::new(read);
        while let Some(request) = self.request(&mut read)? {
            let answer = (self.decide)(&request);
            let file = self.files.lock().unwrap().get(&request.path).cloned();
            let mut file = match (&answer, file) {
                (Answer::Instead(bytes), _) => bytes.clone(),
                (_, Some(file)) => file,
                (_, None) => {
                    write.write_all(&status(404))?;
                    continue;
                }
            };
            if let Answer::Flip(at) | Answer::FlipAndCut(at, _) = answer {
                file[at] ^= 0x10;
            }
            let from = match answer {
                Answer::IgnoreRange => None,
                Answer::Overlap(by) => request.from.map(|from| from.saturating_sub(by)),
                _ => request.from,
            };
            let end = from.and(request.last).map_or(file.len(), |last| file.len().min(last + 1));
            let mut body = file[from.unwrap_or(0)..end].to_vec();
            let mut encoding = "";
            match answer {
                Answer::More(by) => body.extend(std::iter::repeat_n(0, by)),
                Answer::Fewer(by) => body.truncate(body.len().saturating_sub(by)),
                Answer::Gzip => {
                    body = gzip(&body);
                    encoding = "Content-Encoding: gzip\r\n";
                }
                _ => {}
            }
            let mut head = match from {
                None => "HTTP/1.1 200 OK\r\n".to_owned(),
                Some(from) => {
                    let off = usize::from(matches!(answer, Answer::WrongRange));
                    let (first, last) = (from.wrapping_sub(off), end - 1 - off);
                    format!(
                        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}\r\n",
                        file.len()
                    )
                }
            };
            let (length, etag) = (body.len(), file.len());
            // From an old file a cache guesses that it will not change soon.
            let old = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
            head += &format!("{encoding}{old}Content-Length: {length}\r\nETag: \"{etag}\"\r\n\r\n");
            match &answer {
                Answer::Hang => return wait_for_end(&mut read),
                Answer::Status(code) => write.write_all(&status(*code))?,
                Answer::Busy(seconds) => write.write_all(
                    format!(
                        "HTTP/1.1 503 Busy\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n"
                    )
                    .as_bytes(),
                )?,
                Answer::Redirect(to) => write.write_all(
                    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
                        .as_bytes(),
                )?,
                Answer::HangAfter(bytes)
                | Answer::CutAfter(bytes)
                | Answer::FlipAndCut(_, bytes) => {
                    write.write_all(head.as_bytes())?;
                    write.write_all(&body[..body.len().min(*bytes)])?;
                    write.flush()?;
                    return match answer {
                        Answer::HangAfter(_) => wait_for_end(&mut read),
                        _ => Ok(()),
                    };
                }
                Answer::Slowly(bytes, pause) => {
                    write.write_all(head.as_bytes())?;
                    for piece in body.chunks(*bytes) {
                        thread::sleep(Duration::from_millis(*pause));
                        write.write_all(piece)?;
                        write.flush()?;
                    }
                }
                _ => {
                    write.write_all(head.as_bytes())?;
                    write.write_all(&body)?;
                }
            }
            write.flush()?;
        }
        Ok(())
    }

    /// The next request of a connection; `None` at its end.
    fn request(&self, read: &mut impl BufRead) -> std::io::Result<Option<Request>> {
        let mut line = String::new();
        read.read_line(&mut line)?;
        let Some(path) = line.split(' ').nth(1).map(|p| p.trim_start_matches('/').to_owned())
        else {
            return Ok(None);
        };
        let (mut from, mut last) = (None, None);
        let mut identity = false;
        loop {
            line.clear();
            read.read_line(&mut line)?;
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(range) = header.strip_prefix("range: bytes=") {
                let (first, until) = range.split_once('-').unwrap();
                from = Some(first.parse().unwrap());
                last = until.parse().ok();
            }
            identity |= header == "accept-encoding: identity";
        }
        assert!(identity, "a request without Accept-Encoding: identity");
        let mut log = self.log.lock().unwrap();
        let request = Request { path, from, last, number: log.len() };
        log.push(request.clone());
        Ok(Some(request))
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip");
    let mut gzip = gzip.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writing = thread::spawn(move || input.write_all(&bytes));
    let packed = gzip.wait_with_output().unwrap().stdout;
    writing.join().unwrap().unwrap();
    packed
}

fn status(code: u16) -> Vec<u8> {
    format!("HTTP/1.1 {code} No\r\nContent-Length: 3\r\n\r\nno\n").into_bytes()
}

/// Says nothing until the client hangs up.
fn wait_for_end(read: &mut impl Read) -> std::io::Result<()> {
    std::io::copy(read, &mut std::io::sink()).map(drop)
}
