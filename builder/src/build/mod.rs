//! `gse --base`: a system from its sources, in parts A to L.
pub mod hook;
pub mod plan;
pub mod scripts;
pub mod sources;
pub mod state;
