//! Phase 3: HTTP, and the choice among servers.

mod client;
mod config;
mod error;
mod proxy;
mod range;
mod remote;
mod servers;
mod tls;

pub use client::{Client, Patience, RootsError};
pub use config::{ConfigError, FetchedConfig, newer_config};
pub use error::{FetchError, Problem};
pub use range::{Part, Stream};
pub use remote::{RemoteError, RemoteImage, Retry, Switch};
pub use servers::{Chosen, NoServer, Refusal, choose};
