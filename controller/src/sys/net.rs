//! Network interfaces: flags, addresses and routes.
