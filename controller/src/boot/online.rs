//! Phases 2 and 3: the network, the server, and its configuration.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use gse_protocol::config::{
    Bundle, Sources, Trust,
    sources::{proxy_url, server_url},
};

use super::{Disks, Host, Known, Machine};
use crate::{
    clock,
    fetch::{
        self, Chosen, Client, ConfigError, FetchedConfig, NoServer, Patience, Problem, Refusal,
        Retry,
    },
    last_servers::LastServers,
    log::reason,
    network::{self, Online},
};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where the builder puts the host's certificates, for servers whose root the lab does not name.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The server that answered first with a signature that is trusted.
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) chosen: Chosen,
    /// While nothing was given up for what it offers.
    pub(super) retry: Retry,
}

impl Machine {
    /// Phase 2. Without a network the machine boots what it has.
    pub(super) fn network(&self, config: &Bundle, disks: &Disks) -> bool {
        if self.host == Host::Dracut && self.takes_standing_network() {
            return true;
        }
        let mut wanted = config.network.clone();
        if disks.has_labels() && !self.awaits_link(wanted.carrier_timeout) {
            // A machine without a network card is not kept waiting for one that it never had.
            wanted.carrier_timeout = 0;
        }
        let resolv_conf = Path::new(RESOLV_CONF);
        match network::bring_up(&wanted, &self.cmdline, &self.hotplug, &self.log, resolv_conf) {
            Ok(online) => {
                let Online { interface, address, .. } = &online;
                self.log.info(format_args!("{interface} has {address}"));
                true
            }
            Err(e) => {
                self.log.warn(format_args!("no network: {e}"));
                false
            }
        }
    }

    /// Whether there is a network card. One on PCI is there when its driver is loaded; what hangs on USB shows up some time
    /// after its bus does, and is waited for as long as anything does.
    fn awaits_link(&self, seconds: u32) -> bool {
        let sys = Path::new(super::SYS);
        let usb =
            fs::read_dir(sys.join("bus/usb/devices")).is_ok_and(|mut buses| buses.next().is_some());
        let limit = Duration::from_secs(u64::from(seconds) * u64::from(usb));
        let link = || network::has_links(sys);
        let over = || (link() || self.hotplug.settled()).then_some(());
        self.hotplug.wait_until(limit, over);
        link()
    }

    /// Whether dracut, or a script of the administrator's, has brought a network up: that is the one that is
    /// wanted, and it is left as it is.
    fn takes_standing_network(&self) -> bool {
        match network::standing() {
            Ok(Some((link, address))) => {
                self.log.info(format_args!("{link} has {address} already"));
                true
            }
            Ok(None) => false,
            Err(e) => {
                self.log.warn(e);
                false
            }
        }
    }
}

/// What the servers gave.
#[derive(Default)]
pub(super) struct Found {
    /// The server to go by; none if there is none that can be trusted.
    pub(super) server: Option<Server>,
    /// A configuration that is newer than what the machine has.
    pub(super) fetched: Option<FetchedConfig>,
    /// The servers of the configuration, if one of them is that server, and BOOTFS does not say so yet.
    pub(super) works: Option<LastServers>,
}

/// Phase 3: asks the servers of the configuration; and if none of them is of use, those that worked last. A
/// configuration that sends machines to a server that is not there does so not for ever. So long as `patience` lasts, those
/// that are busy are waited for.
pub(super) fn look(machine: &Machine, known: &Known, patience: Duration) -> Found {
    let until = Instant::now() + patience;
    let Known { config, last, .. } = known;
    let own = LastServers::of(&config.sources, config.tls_roots.as_deref());
    let roots = own.tls_roots.as_deref();
    let mut found = ask(machine, sources(machine, config), roots, known, until);
    if found.server.is_none() && found.fetched.is_none() {
        // A wrong proxy in the configuration would otherwise lose the machine for ever.
        let sources = sources(machine, config);
        if sources.proxy.is_some() {
            machine.log.info("asking without the proxy");
            let sources = Sources { proxy: None, ..sources };
            found = ask(machine, sources, roots, known, until);
        }
    }
    if let Some(Server { chosen, .. }) = &found.server {
        let is_own = chosen.servers.first().is_some_and(|first| own.servers.contains(first));
        found.works = (is_own && last.as_ref() != Some(&own)).then_some(own);
        return found;
    }
    match last {
        Some(last) if found.fetched.is_none() && last.servers != own.servers => {
            machine.log.info("asking the servers that worked before");
            let servers = last.servers.clone();
            let sources = Sources { servers, proxy: None, ..config.sources.clone() };
            ask(machine, sources, last.tls_roots.as_deref(), known, until)
        }
        _ => found,
    }
}

/// The server that the next start would go by, without its configuration: that is for the next start. `last` are those
/// that this start knew of. So long as `patience` lasts, those that are busy are waited for.
///
/// # Errors
/// What is wrong with each of them.
pub(super) fn beside(
    machine: &Machine,
    config: &Bundle,
    last: Option<LastServers>,
    patience: Duration,
) -> Result<Server> {
    let mut sources = sources(machine, config);
    sources.servers.extend(last.into_iter().flat_map(|last| last.servers));
    let client = client(config.tls_roots.as_deref(), sources.proxy.as_deref())?;
    let chosen = choose(machine, &client, &sources, Instant::now() + patience)?;
    let mut server = greet(machine, client, chosen);
    server.retry.busy = patience;
    Ok(server)
}

/// Asks these servers for a release, and if all that is wrong with some of them is that they are busy, again when the
/// first of those has time, unless that is after `until`.
fn choose(
    machine: &Machine,
    client: &Client,
    sources: &Sources,
    until: Instant,
) -> Result<Chosen, NoServer> {
    loop {
        let none = match fetch::choose(client, sources) {
            Err(none) => none,
            chosen => return chosen,
        };
        let wait = none.free_in();
        let wait = wait.filter(|wait| *wait <= until.saturating_duration_since(Instant::now()));
        let Some(wait) = wait else { return Err(none) };
        machine.log.warn(format_args!("{none}; asking again in {} s", wait.as_secs()));
        thread::sleep(wait);
    }
}

/// Asks these servers for a release, and one of them for its configuration.
fn ask(
    machine: &Machine,
    sources: Sources,
    roots: Option<&[u8]>,
    known: &Known,
    until: Instant,
) -> Found {
    let log = &machine.log;
    let client = match client(roots, sources.proxy.as_deref()) {
        Ok(client) => client,
        Err(e) => {
            log.warn(reason(&e));
            return Found::default();
        }
    };
    let none = match choose(machine, &client, &sources, until) {
        Ok(chosen) => {
            let server = greet(machine, client, chosen);
            let first = server.chosen.servers.first();
            let fetched = first.and_then(|url| newer_config(machine, &server.client, url, known));
            return Found { server: Some(server), fetched, works: None };
        }
        Err(none) => none,
    };
    log.warn(&none);
    // A release that is not trusted may be by a key that this machine has yet to be told of.
    let refused = none.reasons().filter(|(_, why)| matches!(why, Refusal::Release(_)));
    let mut newer = refused
        .into_iter()
        .filter_map(|(url, _)| Some((url.to_owned(), newer_config(machine, &client, url, known)?)));
    let Some((url, fetched)) = newer.next() else { return Found::default() };
    let sources = Sources { servers: vec![url], ..fetched.bundle.sources.clone() };
    let chosen = choose(machine, &client, &sources, until).map_err(|e| log.warn(e)).ok();
    let server = chosen.map(|chosen| greet(machine, client, chosen));
    Found { server, fetched: Some(fetched), works: None }
}

fn greet(machine: &Machine, client: Client, chosen: Chosen) -> Server {
    let first = chosen.servers.first().map(String::as_str).unwrap_or_default();
    machine.log.info(format_args!("server {first} offers {}", chosen.release.version));
    // The clock of a system that runs is its own affair.
    if machine.host != Host::Running
        && let Err(e) = clock::raise_to(chosen.release.created)
    {
        machine.log.warn(e);
    }
    Server { client, chosen, retry: Retry::default() }
}

/// A server's configuration, if it is newer than what is known. One with a mistake is passed over: the
/// machine keeps what it has.
fn newer_config(
    machine: &Machine,
    client: &Client,
    url: &str,
    known: &Known,
) -> Option<FetchedConfig> {
    let keys = known.config.sources.keys.clone();
    let trust = Trust { keys, serial: known.floor, created: known.config.created };
    match fetch::newer_config(client, url, &trust) {
        Ok(fetched) => fetched,
        Err(ConfigError::Fetch(e)) if matches!(e.problem, Problem::Status(404)) => {
            machine.log.debug("the server publishes no configuration");
            None
        }
        Err(e) => {
            machine.log.warn(format_args!("the server's configuration is not used: {e}"));
            None
        }
    }
}

fn client(roots: Option<&[u8]>, proxy: Option<&str>) -> Result<Client> {
    let system = || fs::read(SYSTEM_ROOTS).ok();
    let system = if roots.is_none() { system() } else { None };
    Client::by_proxy(roots.or(system.as_deref()), Patience::default(), proxy)
        .context("preparing HTTP")
}

/// The configured servers, and those of `gse.server=`; and the proxy, for which `gse.proxy=` stands in. Who can write the kernel command line can so
/// name a server, but not a key.
fn sources(machine: &Machine, config: &Bundle) -> Sources {
    let mut sources = config.sources.clone();
    match machine.cmdline.value("gse.proxy").map(|url| proxy_url(url.to_owned())) {
        Some(Ok(proxy)) => sources.proxy = Some(proxy),
        Some(Err(e)) => {
            machine.log.warn(format_args!("gse.proxy= on the kernel command line: {}", e.message))
        }
        None => {}
    }
    for url in machine.cmdline.values("gse.server") {
        match server_url(url.to_owned()) {
            Ok(url) => sources.servers.insert(0, url),
            Err(e) => machine
                .log
                .warn(format_args!("gse.server= on the kernel command line: {}", e.message)),
        }
    }
    sources
}
