//! Tunables.
