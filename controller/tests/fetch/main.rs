//! Fetching from real servers on loopback, honest and lying ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;
mod configuration;
mod images;
mod proxy;
mod ranges;
mod servers;
mod small_files;
mod tls;

use std::{
    fs::{self, File},
    io::Read as _,
    net::TcpListener,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use common::{
    disk,
    pack::{self, Image, Signer},
    server::{self, Answer, KINDS, Request, Server},
    tree,
};
use gse_controller::{
    config,
    fetch::{
        Client, ConfigError, FetchError, Patience, Problem, RemoteImage, Retry, choose,
        newer_config,
    },
    install::{
        FrameSource as _, FrameSources, InstallError, Limits, LocalTree, Plan, Report, Seed,
        install, make,
    },
    log::Log,
};
use gse_protocol::{
    Release, Serial,
    config::{
        Bundle, Introduction, Sources,
        bundle::{self, Files},
    },
    index::PlacedFrame,
    release::{ImageFile, IndexFile},
    sign::Kind,
};
use proptest::prelude::*;

fn client() -> Client {
    Client::new(None, Patience::default()).unwrap()
}

/// For servers that hang: no test waits for them longer than this.
fn impatient() -> Client {
    let short = Duration::from_secs(1);
    let patience = Patience {
        connect: short,
        answer: short,
        silence: short,
        small: 2 * short,
        ..Patience::default()
    };
    Client::new(None, patience).unwrap()
}

fn refused() -> String {
    // The port was free a moment ago, and nobody listens there now.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

fn release(serial: u64) -> String {
    let index = IndexFile::of("images/i".into(), b"packed", b"cbor");
    let image = ImageFile { path: "images/s".into(), size: 1, installed_size: 1, entries: 1 };
    let release = Release {
        format: 1,
        name: "lab".into(),
        version: "1".into(),
        serial: Serial(serial),
        created: 0,
        allow_downgrade: false,
        index,
        image,
        kernel: None,
    };
    release.to_toml()
}

fn sources(signer: &Signer, servers: &[String]) -> Sources {
    Sources { servers: servers.to_vec(), keys: signer.keys(), tls_roots: None, proxy: None }
}
