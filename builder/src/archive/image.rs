//! Writes `system.tar.zst`, and makes its checksum and signature on the way.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::Path,
    sync::{Arc, mpsc},
    thread,
};

use gse_protocol::sign::Claim;
use sha2::{Digest as _, Sha512};

use super::{error::Error, pool::Buffer};
use crate::keys::{self, SecretKey};

/// How many frames a slow consumer may lag behind.
const LAG: usize = 2;
/// How many buffers the consumers together can hold back.
pub(super) const HELD: usize = LAG + 2;

/// What is known of an image once it is written.
pub(super) struct Written {
    /// In bytes.
    pub(super) size: u64,
    /// Of the whole file, in hex.
    pub(super) sha512: String,
    /// The text of its `.minisig`.
    pub(super) signature: String,
}

/// Calls `produce` with a function that takes the image's frames in order, and writes them to `path`.
/// The file is on disk when this returns.
pub(super) fn write<'p, T>(
    path: &Path,
    key: &SecretKey,
    claim: Claim,
    words: &str,
    produce: impl FnOnce(&mut dyn FnMut(Buffer<'p>) -> Result<(), Error>) -> Result<T, Error>,
) -> Result<(Written, T), Error> {
    let mut file = File::create_new(path).map_err(Error::write("creating", path))?;
    let mut size = 0;
    thread::scope(|scope| {
        let (to_checksum, frames) = mpsc::sync_channel::<Arc<Buffer<'p>>>(LAG);
        let checksum = scope.spawn(move || {
            let mut hasher = Sha512::new();
            frames.iter().for_each(|frame| hasher.update(&**frame));
            hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        });
        let (to_signature, frames) = mpsc::sync_channel(LAG);
        let signature = scope.spawn(move || key.sign(claim, words, Frames::new(frames)));

        let mut sink = |frame: Buffer<'p>| {
            file.write_all(&frame).map_err(Error::write("writing", path))?;
            size += frame.len() as u64;
            let frame = Arc::new(frame);
            let ended = |_| Error::System("a thread that hashes the image ended early".to_owned());
            to_checksum.send(frame.clone()).map_err(ended)?;
            to_signature.send(frame).map_err(ended)
        };
        let produced = produce(&mut sink);
        // The threads end when there is nobody left to send.
        drop((to_checksum, to_signature));
        let ended = |_| Error::System("a thread that hashes the image panicked".to_owned());
        let produced = produced?;
        file.sync_all().map_err(Error::write("writing", path))?;
        let sha512 = checksum.join().map_err(ended)?;
        let signature: Result<String, keys::Error> = signature.join().map_err(ended)?;
        Ok((Written { size, sha512, signature: signature? }, produced))
    })
}

/// Frames, one after the other, as a reader.
struct Frames<'p> {
    frames: mpsc::Receiver<Arc<Buffer<'p>>>,
    current: Option<Arc<Buffer<'p>>>,
    position: usize,
}

impl<'p> Frames<'p> {
    fn new(frames: mpsc::Receiver<Arc<Buffer<'p>>>) -> Self {
        Self { frames, current: None, position: 0 }
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let rest = self.current.as_ref().and_then(|c| c.get(self.position..));
            if let Some(mut rest) = rest.filter(|r| !r.is_empty()) {
                let read = rest.read(to)?;
                self.position += read;
                return Ok(read);
            }
            self.current = self.frames.recv().ok();
            self.position = 0;
            if self.current.is_none() {
                return Ok(0);
            }
        }
    }
}
