//! The builder: everything that `gse` does on the server.
