//! catalyst, which makes a stage3 from source: its configuration, its specs, and what it leaves.

pub mod conf;
pub mod product;
pub mod spec;

use std::path::PathBuf;

use self::{conf::Conf, spec::Spec};

/// Everything in `config.d/system/catalyst`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Catalyst {
    /// `catalyst.conf`
    pub conf: Conf,
    /// `stage1.spec` and so on, in the order in which they are built.
    pub specs: Vec<Spec>,
    /// `catalystrc`, if there is one.
    pub environment: Option<PathBuf>,
}

/// Why catalyst's work does not count.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to build.
    #[error(
        "there is no spec in config.d/system/catalyst: stage1.spec and stage3.spec make a stage3 (gse's own config.d has both)"
    )]
    NoSpecs,
    /// It says nothing about the snapshot.
    #[error("catalyst ended well, but does not say where its snapshot is; what it said is above")]
    NoSnapshot,
    /// The snapshot is elsewhere.
    #[error(
        "catalyst says that its snapshot is {path}, which is not {expected} with a commit in its name"
    )]
    Snapshot {
        /// As it says.
        path: PathBuf,
        /// Where it should be.
        expected: String,
    },
    /// The first stage has nothing to start from.
    #[error(
        "{spec} is made from {path}, which is not there: put a stage3 there, or write source_subpath: @SEED@ to have gse \
         fetch one"
    )]
    NoSeed {
        /// Its file.
        spec: String,
        /// Without its ending.
        path: PathBuf,
    },
    /// The product.
    #[error(transparent)]
    Product(#[from] product::Error),
    /// A spec, filled in.
    #[error(transparent)]
    Spec(#[from] gse_protocol::config::Error),
    /// The configuration cannot be written.
    #[error("writing catalyst.conf")]
    Conf(#[from] toml::ser::Error),
}
