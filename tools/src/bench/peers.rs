//! Other stacks of user space, each in its best honest configuration. Those that are Rust packages are in a crate of
//! their own, `benches/peers`, outside of the workspace: nothing but `./run.sh bench` builds it.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Another stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// smoltcp on a plain TUN device of MTU 1500.
    Smoltcp1500,
    /// smoltcp on the same with a virtio-net header: it receives super-segments, and leaves checksums to the device.
    Smoltcp1500Vnet,
    /// smoltcp on a plain TUN device of MTU 65520.
    Smoltcp65520,
    /// ipstack under tokio, on a plain TUN device.
    Ipstack,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Smoltcp1500, Self::Smoltcp1500Vnet, Self::Smoltcp65520, Self::Ipstack];

    /// What tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoltcp1500 => "smoltcp-1500",
            Self::Smoltcp1500Vnet => "smoltcp-1500-vnet",
            Self::Smoltcp65520 => "smoltcp-65520",
            Self::Ipstack => "ipstack",
        }
    }

    /// Words for the program of the crate.
    #[must_use]
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Smoltcp1500 => &["smoltcp", "--mtu", "1500"],
            Self::Smoltcp1500Vnet => &["smoltcp", "--mtu", "1500", "--vnet"],
            Self::Smoltcp65520 => &["smoltcp", "--mtu", "65520"],
            Self::Ipstack => &["ipstack", "--mtu", "1500"],
        }
    }
}

/// Where the program of the crate is, once it is built.
#[must_use]
pub fn program(top: &Path) -> PathBuf {
    top.join("target/peers/release/trust-peers")
}

/// Builds the crate; its packages come from the registry the first time.
///
/// # Errors
/// There is no cargo, or the build failed. What it said is on standard error.
pub fn build(top: &Path) -> io::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--manifest-path"]).arg(top.join("benches/peers/Cargo.toml"));
    // Its own: a folder that is shared by two workspaces is compiled anew by each.
    cargo.arg("--target-dir").arg(top.join("target/peers"));
    let status = cargo.status().map_err(|e| io::Error::new(e.kind(), format!("cargo: {e}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other("the build of benches/peers failed")) }
}
