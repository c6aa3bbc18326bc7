//! `gse --base`: a system from its sources, in parts A to L.
pub mod ask;
pub mod checks;
pub mod config;
pub mod config_lists;
pub mod config_tree;
pub mod hook;
pub mod log;
pub mod loops;
pub mod mirrors;
pub mod mounts;
pub mod namespace;
pub mod openpgp;
pub mod plan;
pub mod run;
pub mod scripts;
pub mod sources;
pub mod state;
