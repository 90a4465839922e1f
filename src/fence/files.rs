//! Files and ports, by Landlock: what is not named here cannot be opened, bound or connected to, whoever owns it.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, NetPort, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Missing;

/// The newest version of the interface that this is tested with. An older kernel enforces what it knows.
const NEWEST: ABI = ABI::V7;

/// Where the resolver of this machine has its configuration, its modules and its daemons, and the kernel what it says
/// of forwarding. Whatever is not there is left out.
const NAMES: [&str; 8] = ["/etc", "/usr", "/lib", "/lib64", "/run", "/nix/store", "/var/lib/sss", "/proc/sys/net"];

/// DNS, for answers that do not fit into a datagram (RFC 7766).
const DNS: u16 = 53;

/// What is still opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// Nothing.
    None,
    /// Files that the resolver reads, and connections to these TCP ports and a name server's.
    Names {
        /// Of any host.
        ports: Vec<u16>,
    },
    /// Files of this folder may be removed, and nothing be read.
    Remove {
        /// The folder.
        folder: PathBuf,
    },
}

impl Files {
    /// Restricts the calling thread and those that it starts; which version of the interface does it.
    pub(super) fn restrict(&self) -> Result<i32, Missing> {
        let missing = |why: String| Missing { what: "landlock", why };
        let status = self.enforce().map_err(|error| missing(error.to_string()))?;
        match (status.ruleset, status.landlock) {
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
                Err(missing("this kernel has it, but not enabled".to_owned()))
            }
            (RulesetStatus::NotEnforced, _) => Err(missing("this kernel does not have it".to_owned())),
            (_, LandlockStatus::Available { effective_abi, kernel_abi }) => {
                Ok(kernel_abi.unwrap_or(effective_abi as i32))
            }
            (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => {
                Err(missing("this kernel does not say that it enforces it".to_owned()))
            }
        }
    }

    fn enforce(&self) -> Result<RestrictionStatus, RulesetError> {
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?;
        if let Self::Names { ports } = self {
            for place in NAMES.iter().filter_map(|path| PathFd::new(path).ok()) {
                rules = rules.add_rule(PathBeneath::new(place, AccessFs::ReadFile | AccessFs::ReadDir))?;
            }
            for port in ports.iter().chain([&DNS]) {
                rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
            }
        }
        if let Self::Remove { folder } = self
            && let Ok(folder) = PathFd::new(folder)
        {
            rules = rules.add_rule(PathBeneath::new(folder, AccessFs::RemoveFile))?;
        }
        rules.restrict_self()
    }
}
