//! Kernel modules: found by modalias, loaded with what they depend on.
