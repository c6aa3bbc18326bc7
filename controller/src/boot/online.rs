//! Phases 2 and 3: the network, the server, and its configuration.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use gse_protocol::{
    Serial,
    config::{Bundle, Sources, sources::server_url},
};

use super::{Disks, Host, Machine};
use crate::{
    clock,
    fetch::{self, Chosen, Client, ConfigError, FetchedConfig, Patience, Problem},
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
}

impl Machine {
    /// Phase 2. Without a network the machine boots what it has.
    pub(super) fn network(&self, config: &Bundle, disks: &Disks) -> bool {
        if self.host == Host::Dracut && self.takes_standing_network() {
            return true;
        }
        let mut wanted = config.network.clone();
        let installed = disks.found.slots.iter().any(|slot| slot.label().is_some());
        if installed && !network::has_links(Path::new(super::SYS)) {
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

/// The server to go by; none if there is none that can be trusted.
pub(super) fn choose(machine: &Machine, config: &Bundle) -> Option<Server> {
    let log = &machine.log;
    let chosen = client(config).and_then(|client| {
        let chosen = fetch::choose(&client, &sources(machine, config))?;
        Ok(Server { client, chosen })
    });
    match chosen {
        Ok(server) => {
            let first = server.chosen.servers.first().map(String::as_str).unwrap_or_default();
            log.info(format_args!("server {first} offers {}", server.chosen.release.version));
            if let Err(e) = clock::raise_to(server.chosen.release.created) {
                log.warn(e);
            }
            Some(server)
        }
        Err(e) => {
            log.warn(reason(&e));
            None
        }
    }
}

/// The server's configuration, if its serial is above `floor`. One with a mistake is passed over: the
/// machine keeps what it has.
pub(super) fn newer_config(
    machine: &Machine,
    server: &Server,
    config: &Bundle,
    floor: Serial,
) -> Option<FetchedConfig> {
    let first = server.chosen.servers.first()?;
    match fetch::newer_config(&server.client, first, &config.sources.keys, floor) {
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

fn client(config: &Bundle) -> Result<Client> {
    let roots = config.tls_roots.clone().or_else(|| fs::read(SYSTEM_ROOTS).ok());
    Client::new(roots.as_deref(), Patience::default()).context("preparing HTTPS")
}

/// The configured servers, and those of `gse.server=`. Who can write the kernel command line can so
/// name a server, but not a key.
fn sources(machine: &Machine, config: &Bundle) -> Sources {
    let mut sources = config.sources.clone();
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
