//! What GSE's modules carry: the same as the controller's own image.

use std::collections::BTreeMap;

use gse_dracut::{Contents, File};

use super::super::{Error, Input, Options, config, controller, tools, tree::Node};

/// Where the sources of the kernel have its network drivers, and the protocol that DHCP needs.
const NETWORK: [&str; 2] = ["drivers/net/", "net/"];

pub(super) fn contents(input: &Input, options: &Options) -> Result<Contents, Error> {
    let (network_drivers, storage_drivers) = drivers(input);
    Ok(Contents {
        controller: Some(controller(&options.controller)?),
        config: configuration(input, options)?,
        network_drivers,
        storage_drivers,
        tools: tools::names(&input.config.filesystems()),
        cmdline: options.local.cmdline.clone(),
        hooks: options.local.hooks.clone(),
        modprobe: options.local.modprobe.clone(),
    })
}

fn configuration(input: &Input, options: &Options) -> Result<BTreeMap<String, File>, Error> {
    let nodes = config::nodes(&input.config, options.time)?;
    let file = |(path, node): (String, Node)| match node {
        Node::File { mode, bytes } => Some((path, File { mode, bytes })),
        _ => None,
    };
    Ok(nodes.into_iter().filter_map(file).collect())
}

/// The chosen drivers of network cards, and all others.
fn drivers(input: &Input) -> (Vec<String>, Vec<String>) {
    let names = input.chosen.iter().map(|name| {
        let module = input.kernel.modules.get(name);
        let origin = module.map(|module| module.origin.as_str()).unwrap_or_default();
        (name.as_str().to_owned(), NETWORK.iter().any(|place| origin.starts_with(place)))
    });
    let (network, storage): (Vec<_>, Vec<_>) = names.partition(|(_, network)| *network);
    let plain = |names: Vec<(String, bool)>| names.into_iter().map(|(name, _)| name).collect();
    (plain(network), plain(storage))
}
