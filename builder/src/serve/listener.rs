//! Connections: how many at a time, and how long one may make no progress.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum_server::{AddrListener, Address};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// A TCP listener that accepts no more than so many connections at a time. Those beyond wait in the
/// kernel's queue, where they cost this process nothing, until one of the others ends.
pub(super) struct Gate {
    listener: TcpListener,
    places: Arc<Semaphore>,
    stall: Duration,
}

impl Gate {
    /// `stall`: how long a client may leave its window full before it loses its place.
    pub(super) fn new(listener: TcpListener, connections: usize, stall: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections)), stall }
    }
}

/// The kind of address that a [`Gate`] has: the server knows its own, and those of clients are not asked for.
#[derive(Debug, Clone)]
pub(super) struct GateAddress;

impl Address for GateAddress {
    type Stream = Connection;
    type Listener = Gate;
}

impl AddrListener<Connection, GateAddress> for Gate {
    async fn bind_to(_: GateAddress) -> io::Result<Self> {
        // A gate is made from a listener that is bound already, so that a port in use is told at once.
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn accept_stream(&self) -> io::Result<(Connection, GateAddress)> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = Connection { stream, stall: self.stall, deadline: None, _place: place };
        Ok((connection, GateAddress))
    }

    fn get_local_addr(&self) -> io::Result<GateAddress> {
        Ok(GateAddress)
    }
}

/// A connection that ends when its client takes nothing for too long: a machine that lost power in
/// the middle of a download, or one that means harm. (Clients that *send* too slowly are hyper's
/// business: it bounds the time for a request's head, and idle time with it.)
pub(super) struct Connection {
    stream: TcpStream,
    stall: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Passes on what the socket answered, unless it has answered "not yet" for too long.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        answer: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if answer.is_ready() {
            self.deadline = None;
            return answer;
        }
        let stall = self.stall;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(deadline.as_mut().poll(context));
        // Polled once more, it fails at once rather than starting to wait anew.
        deadline.as_mut().reset(Instant::now());
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let answer = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, answer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let answer = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bounded(context, answer)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
