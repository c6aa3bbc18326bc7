//! The files below `dist.d`, opened so that no request can reach anything else.
//!
//! `tower-http` decodes the path and refuses `..`; what it cannot see are links. So every open goes
//! through `openat2` with `RESOLVE_BENEATH`, by which the kernel itself refuses a path or a link that
//! leaves the folder, without a moment between check and use.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File};

/// Opens files below one folder, which is looked up anew each time: it may be replaced as a whole.
#[derive(Debug, Clone)]
pub(super) struct Beneath(Arc<Path>);

impl Beneath {
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.into())
    }

    fn open_blocking(&self, path: &Path) -> io::Result<std::fs::File> {
        // A link may lead to a hidden file, which is then published by that link's name.
        if path.components().any(is_hidden) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let folder = openat(CWD, &*self.0, flags, Mode::empty()).map_err(as_missing)?;
        // Opening a named pipe without O_NONBLOCK would wait for a writer, for ever.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file: OwnedFd =
            openat2(folder, path, flags, Mode::empty(), resolve).map_err(as_missing)?;
        let file = std::fs::File::from(file);
        let kind = file.metadata()?.file_type();
        if kind.is_file() || kind.is_dir() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    async fn open_async(self, path: PathBuf) -> io::Result<std::fs::File> {
        tokio::task::spawn_blocking(move || self.open_blocking(&path))
            .await
            .map_err(io::Error::other)?
    }
}

fn is_hidden(component: Component<'_>) -> bool {
    matches!(component, Component::Normal(name) if name.as_encoded_bytes().starts_with(b"."))
}

/// What a client must not reach is, to the client, not there. Only what is wrong with the server
/// itself stays an error of the server.
fn as_missing(error: rustix::io::Errno) -> io::Error {
    use rustix::io::Errno;
    match error {
        // INVAL: a NUL in the name.
        Errno::XDEV
        | Errno::LOOP
        | Errno::NAMETOOLONG
        | Errno::NOTDIR
        | Errno::NXIO
        | Errno::INVAL => io::ErrorKind::NotFound.into(),
        other => other.into(),
    }
}

impl Backend for Beneath {
    type File = OpenFile;
    type Metadata = std::fs::Metadata;
    type OpenFuture = Boxed<'static, OpenFile>;
    type MetadataFuture = Boxed<'static, std::fs::Metadata>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let open = self.clone().open_async(path);
        Box::pin(async { Ok(OpenFile(tokio::fs::File::from_std(open.await?))) })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let open = self.clone().open_async(path);
        Box::pin(async { open.await?.metadata() })
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// An open file, as `tower-http` reads it.
#[derive(Debug)]
pub(super) struct OpenFile(tokio::fs::File);

impl AsyncRead for OpenFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncSeek for OpenFile {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(context)
    }
}

impl File for OpenFile {
    type Metadata = std::fs::Metadata;
    type MetadataFuture<'a> = Boxed<'a, std::fs::Metadata>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}
