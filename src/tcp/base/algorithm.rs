//! The names of the congestion control algorithms, for configuration.
//!
//! What they do is in [`congestion`](crate::tcp::congestion).

use core::fmt;
use core::str::FromStr;

/// The known algorithms, for configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum CongestionControl {
    /// RFC 5681: one segment more each round trip, half after a loss.
    Reno,
    /// RFC 9438: faster on long and fast paths, as fair as Reno on others.
    #[default]
    Cubic,
}

impl CongestionControl {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Reno, Self::Cubic];

    /// Its name, as [`FromStr`] takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reno => "reno",
            Self::Cubic => "cubic",
        }
    }
}

impl fmt::Display for CongestionControl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// No algorithm has this name.
#[derive(Clone, PartialEq, Eq)]
pub struct UnknownCongestionControl(String);

debug_as_display!(UnknownCongestionControl);

impl fmt::Display for UnknownCongestionControl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} is no congestion control; there is", self.0)?;
        for (index, kind) in CongestionControl::ALL.into_iter().enumerate() {
            write!(out, "{} {kind}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownCongestionControl {}

impl FromStr for CongestionControl {
    type Err = UnknownCongestionControl;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownCongestionControl(name.to_owned()))
    }
}
