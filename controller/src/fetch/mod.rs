//! Phase 3: HTTP, and the choice among servers.
