//! Phase 5: makes the tree that a signed index describes.
