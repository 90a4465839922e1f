//! Other stacks of user space, each in its best honest configuration. Those that are Rust packages are in a crate of
//! their own, `benches/peers`, outside of the workspace: nothing but `./run.sh bench` builds it. Others are of the system.
//!
//! tun2proxy does not fit: its TCP is ipstack's, and it hands connections to a SOCKS or HTTP proxy only, which would be
//! measured with it.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Another stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// smoltcp on a plain TUN device of MTU 1500.
    Smoltcp1500,
    /// smoltcp on the same with a virtio-net header: super-segments both ways, and checksums by the device.
    Smoltcp1500Vnet,
    /// smoltcp on a plain TUN device of MTU 65520.
    Smoltcp65520,
    /// ipstack under tokio, on a plain TUN device.
    Ipstack,
    /// pasta, whose TCP ends in sockets of the kernel's and a server behind them; MTU 65520.
    Pasta,
    /// slirp4netns, likewise.
    Slirp4netns,
}

/// A program of the crate, or one that the system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// These words for the program of the crate.
    Crate(&'static [&'static str]),
    /// A program that joins a client's namespace to the sockets of another.
    System {
        /// What it is called.
        program: &'static str,
        /// Debian's package.
        package: &'static str,
        /// Words before the place of the client's namespace.
        before: &'static [&'static str],
        /// Words behind it.
        after: &'static [&'static str],
        /// Where the client finds the server's loopback.
        address: &'static str,
    },
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Smoltcp1500, Self::Smoltcp1500Vnet, Self::Smoltcp65520, Self::Ipstack, Self::Pasta, Self::Slirp4netns];

    /// What tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoltcp1500 => "smoltcp-1500",
            Self::Smoltcp1500Vnet => "smoltcp-1500-vnet",
            Self::Smoltcp65520 => "smoltcp-65520",
            Self::Ipstack => "ipstack",
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// How it is run.
    #[must_use]
    pub fn form(self) -> Form {
        match self {
            Self::Smoltcp1500 => Form::Crate(&["smoltcp", "--mtu", "1500"]),
            Self::Smoltcp1500Vnet => Form::Crate(&["smoltcp", "--mtu", "1500", "--vnet"]),
            Self::Smoltcp65520 => Form::Crate(&["smoltcp", "--mtu", "65520"]),
            Self::Ipstack => Form::Crate(&["ipstack", "--mtu", "1500"]),
            Self::Pasta => Form::System {
                program: "pasta",
                package: "passt",
                before: &["-f", "--config-net", "--runas", "0", "--netns-only", "--netns"],
                after: &["-4", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--mtu", "65520"],
                address: "10.9.0.1",
            },
            Self::Slirp4netns => Form::System {
                program: "slirp4netns",
                package: "slirp4netns",
                before: &["--configure", "--mtu=65520", "--netns-type=path"],
                after: &["tap0"],
                address: "10.0.2.2",
            },
        }
    }

    /// Whether it comes from the crate.
    #[must_use]
    pub fn is_built(self) -> bool {
        matches!(self.form(), Form::Crate(_))
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
