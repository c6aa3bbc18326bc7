//! A proxy, in networks that let machines out by nothing else.
//!
//! Through it goes what is encrypted (`CONNECT`), and ureq does that. All else is for it to answer: it is given the
//! whole URL (RFC 9112, section 3.2.2), and keeps what other machines ask for too. That is added here.

use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport},
    },
};

/// The address of every name is that of the proxy.
#[derive(Debug)]
pub(super) struct ToProxy(pub(super) Uri);

impl Resolver for ToProxy {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        DefaultResolver::default().resolve(&self.0, config, timeout)
    }
}

/// Requests name the whole URL, if there is a proxy.
#[derive(Debug)]
pub(super) struct WholeUrl(pub(super) bool);

impl<In: Transport> Connector<In> for WholeUrl {
    type Out = Whole<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let authority = details.uri.authority().filter(|_| self.0);
        let origin = authority.map(|authority| format!("http://{authority}")).unwrap_or_default();
        Ok(chained.map(|inner| Whole { inner, origin: origin.into_bytes() }))
    }
}

/// A connection on which requests name the whole URL.
#[derive(Debug)]
pub(super) struct Whole<T> {
    inner: T,
    /// What comes before the path, if anything.
    origin: Vec<u8>,
}

/// How each request begins.
const GET: &[u8] = b"GET ";

/// Puts `origin` before the path of the request that fills the first `amount` bytes, and says how many they are then.
fn name_whole(buffer: &mut [u8], amount: usize, origin: &[u8]) -> usize {
    let start = GET.len();
    let is_request = buffer.get(..amount).is_some_and(|head| head.starts_with(b"GET /"));
    let (path, whole) = (start + origin.len(), amount + origin.len());
    if origin.is_empty() || !is_request || whole > buffer.len() {
        return amount;
    }
    buffer.copy_within(start..amount, path);
    buffer.get_mut(start..path).into_iter().for_each(|place| place.copy_from_slice(origin));
    whole
}

impl<T: Transport> Transport for Whole<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let amount = name_whole(self.inner.buffers().output(), amount, &self.origin);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_url_is_named_where_there_is_room_and_a_request() {
        for (sent, origin, expected) in [
            ("GET /x HTTP/1.1\r\n", "http://a:81", "GET http://a:81/x HTTP/1.1\r\n"),
            ("GET /x HTTP/1.1\r\n", "", "GET /x HTTP/1.1\r\n"),
            ("GET http://b/x\r\n", "http://a", "GET http://b/x\r\n"),
            ("more", "http://a", "more"),
        ] {
            let mut buffer = [sent.as_bytes(), &[0; 40]].concat();
            let amount = name_whole(&mut buffer, sent.len(), origin.as_bytes());
            assert_eq!(std::str::from_utf8(&buffer[..amount]).unwrap(), expected);
            let mut full = sent.as_bytes().to_vec();
            assert_eq!(name_whole(&mut full, sent.len(), origin.as_bytes()), sent.len());
        }
    }
}
