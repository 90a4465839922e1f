//! The library as those who depend on it meet it: what its types promise, and what README shows of it.

#![allow(clippy::unwrap_used)]

#[cfg(feature = "services")]
mod api;
mod readme;
mod starting;
