//! Connections: how many at a time, and how long one may make no progress.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::extract::connect_info::Connected;
use axum_server::{AddrListener, Address};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use super::places::{Place, Places};

/// A TCP listener that accepts no more than so many connections at a time, and a quarter as many again for clients that
/// are told so: there are no places, or their address has its share. Only connections beyond that wait in the kernel's
/// queue, where they cost this process nothing. An address that has its share of the quarter too is hung up on; it must not
/// keep the others waiting.
pub(super) struct Gate {
    listener: TcpListener,
    places: Arc<Places>,
    extra: Arc<Places>,
    all: Arc<Semaphore>,
    stall: Duration,
}

impl Gate {
    /// `stall`: how long a client may leave its window full before it loses its place.
    pub(super) fn new(listener: TcpListener, connections: usize, stall: Duration) -> Self {
        let extra = connections.div_ceil(4);
        Self {
            listener,
            places: Places::new(connections),
            extra: Places::new(extra),
            all: Arc::new(Semaphore::new(connections + extra)),
            stall,
        }
    }
}

/// What is known of a client, in place of its address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visitor {
    /// It has none of the places, and should not stay.
    pub(super) is_extra: bool,
}

impl Address for Visitor {
    type Stream = Connection;
    type Listener = Gate;
}

impl Connected<Self> for Visitor {
    fn connect_info(visitor: Self) -> Self {
        visitor
    }
}

impl AddrListener<Connection, Visitor> for Gate {
    async fn bind_to(_: Visitor) -> io::Result<Self> {
        // A gate is made from a listener that is bound already, so that a port in use is told at once.
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn accept_stream(&self) -> io::Result<(Connection, Visitor)> {
        loop {
            let one = Arc::clone(&self.all).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, client) = self.listener.accept().await?;
            let place = self.places.take(client.ip());
            let visitor = Visitor { is_extra: place.is_none() };
            let Some(place) = place.or_else(|| self.extra.take(client.ip())) else { continue };
            stream.set_nodelay(true)?;
            let (stall, _place) = (self.stall, (place, one));
            return Ok((Connection { stream, stall, deadline: None, _place }, visitor));
        }
    }

    fn get_local_addr(&self) -> io::Result<Visitor> {
        // Asked for by those who do not know it.
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A connection that ends when its client takes nothing for too long: a machine that lost power in
/// the middle of a download, or one that means harm. (Clients that *send* too slowly are hyper's
/// business: it bounds the time for a request's head, and idle time with it.)
pub(super) struct Connection {
    stream: TcpStream,
    stall: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    _place: (Place, OwnedSemaphorePermit),
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
