//! The builder: everything that `gse` does on the server.

pub mod cli;
pub mod publish;
pub mod serve;
