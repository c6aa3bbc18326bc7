//! Phase 2: links, addresses, name servers.
