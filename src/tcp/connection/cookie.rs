//! SYN cookies (RFC 4987 3.6): a listener that keeps nothing of a SYN, because the initial sequence number of its
//! SYN-ACK says it all, and the ACK brings it back.
//!
//! ```text
//!   31            24 23                                             0
//!  +----------------+------------------------------------------------+
//!  | options ^ pad  |    24 bits of MAC(quad, IRS, listener, epoch,   |
//!  |                |                   options)                      |
//!  +----------------+------------------------------------------------+
//!    options: MSS (3 bits, one of eight), window shift (4, 15 is none), SACK permitted (1)
//! ```
//!
//! Nothing that was negotiated is lost but the difference of the MSS to the next smaller of the eight. Timestamps are
//! in use when the ACK has them: who has offered them must send them on every segment (RFC 7323 3.2).
//!
//! *Security.* The MAC is SipHash-2-4 under a key of 128 random bits, and the epoch in its input amounts to a new key
//! for each epoch; those of this epoch and of the one before are taken. Who cannot see the SYN-ACK has to guess: all
//! 256 values of the upper octet mean something, so that one ACK makes a connection with a chance of two (epochs) in
//! 2^24. That is less than the 32 bits of an ordinary ISN, which is why cookies are made when there is no place for a
//! record, and why ACKs are held against them only if some were made lately. The pad depends on the same secret, so
//! that the number as a whole looks random to others, whatever the options are (MUST-9); whoever did send the SYN
//! learns nothing but his own options.
//!
//! The MAC does not say whether a cookie was used: that whoever has one does not use it twice is up to the caller, who
//! can tell them apart by [`Cookie::id`].

use core::fmt;
use core::hash::Hasher;
use core::net::IpAddr;
use core::str::FromStr;

use siphasher::sip::SipHasher24;

use crate::tcp::base::seq::SeqNum;
use crate::tcp::base::time::{Duration, Instant};
use crate::wire::options::TcpOptions;

/// How long an epoch lasts, if nobody ends it before. A cookie is good for one to two of them.
pub const EPOCH: Duration = Duration::from_secs(30);

/// When SYNs are answered with cookies (net.ipv4.tcp_syncookies).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SynCookies {
    /// Never: without a place for a record the SYN is dropped, or the oldest record makes way.
    Off,
    /// When there is no place for a record (RFC4987-3.7).
    #[default]
    Overflow,
    /// Always: no records at all.
    Always,
}

/// Why a text is not a [`SynCookies`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("no use of SYN cookies is called {0:?}: off, overflow or always")]
pub struct ParseSynCookiesError(String);

debug_as_display!(ParseSynCookiesError);

impl FromStr for SynCookies {
    type Err = ParseSynCookiesError;

    fn from_str(text: &str) -> Result<Self, ParseSynCookiesError> {
        match text {
            "off" => Ok(Self::Off),
            "overflow" => Ok(Self::Overflow),
            "always" => Ok(Self::Always),
            other => Err(ParseSynCookiesError(other.to_owned())),
        }
    }
}

/// The MSS values of cookies, ascending. The first stands for everything below the second: nothing smaller is honoured
/// ([`Config::min_mss`](crate::tcp::Config::min_mss)). The others are what is common: the defaults of RFC 9293, tunnels,
/// PPPoE, Ethernet, jumbo frames.
const MSS_V4: [u16; 8] = [88, 536, 1_220, 1_360, 1_400, 1_440, 1_460, 8_960];
const MSS_V6: [u16; 8] = [88, 1_220, 1_300, 1_360, 1_400, 1_420, 1_440, 8_940];

const NO_SHIFT: u8 = 15;

/// What a cookie stands for, and what both its SYN-ACK and the ACK of that tell.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Our end: address and port.
    pub local: (IpAddr, u16),
    /// The peer's.
    pub remote: (IpAddr, u16),
    /// Number of the peer's SYN.
    pub irs: SeqNum,
    /// Names the listener, and no other one before or after it.
    pub listener: u64,
}

/// What a good cookie has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// In which epoch it was made.
    pub epoch: u64,
    /// Tells it from all others.
    pub id: u64,
    /// What was negotiated, but for timestamps: MSS, window shift, SACK permitted.
    pub options: TcpOptions,
}

/// The secret of an engine's cookies.
#[derive(Clone)]
pub struct CookieKey {
    keyed: SipHasher24,
}

impl fmt::Debug for CookieKey {
    /// Without the key, which must never be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieKey").finish_non_exhaustive()
    }
}

impl CookieKey {
    /// A secret of 128 random bits.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self { keyed: SipHasher24::new_with_key(&key) }
    }

    /// The initial sequence number that stands for a SYN with these options; `mss` is the peer's, or the default for
    /// one that names none (MUST-15).
    #[must_use]
    pub fn make(&self, subject: &Subject, epoch: u64, mss: u16, options: &TcpOptions) -> SeqNum {
        let table = mss_table(subject);
        let index = table.iter().rposition(|&entry| entry <= mss).unwrap_or(0) as u8;
        let shift = options.window_scale.map_or(NO_SHIFT, |shift| shift.min(14));
        let octet = index << 5 | shift << 1 | u8::from(options.sack_permitted);
        let id = self.id(subject, epoch);
        SeqNum(u32::from(octet ^ pad(id)) << 24 | self.mac(id, octet))
    }

    /// What `cookie` says, if it was made for this in `epoch` or the one before.
    #[must_use]
    pub fn check(&self, subject: &Subject, epoch: u64, cookie: SeqNum) -> Option<Cookie> {
        [Some(epoch), epoch.checked_sub(1)].into_iter().flatten().find_map(|epoch| {
            let id = self.id(subject, epoch);
            let octet = (cookie.0 >> 24) as u8 ^ pad(id);
            if self.mac(id, octet) != cookie.0 & 0x00ff_ffff {
                return None;
            }
            let shift = octet >> 1 & NO_SHIFT;
            let options = TcpOptions {
                mss: Some(mss_table(subject)[usize::from(octet >> 5)]),
                window_scale: (shift != NO_SHIFT).then_some(shift),
                sack_permitted: octet & 1 == 1,
                ..TcpOptions::default()
            };
            Some(Cookie { epoch, id, options })
        })
    }

    /// A number that nobody else can compute, for each subject and epoch.
    fn id(&self, subject: &Subject, epoch: u64) -> u64 {
        let mut hasher = self.keyed;
        for (addr, port) in [subject.local, subject.remote] {
            match addr {
                IpAddr::V4(addr) => hasher.write(&addr.octets()),
                IpAddr::V6(addr) => hasher.write(&addr.octets()),
            }
            hasher.write(&port.to_be_bytes());
        }
        hasher.write(&subject.irs.0.to_be_bytes());
        hasher.write(&subject.listener.to_be_bytes());
        hasher.write(&epoch.to_be_bytes());
        hasher.finish()
    }

    /// Input of 9 octets, which no [`id`](Self::id) has.
    fn mac(&self, id: u64, octet: u8) -> u32 {
        let mut hasher = self.keyed;
        hasher.write(&id.to_be_bytes());
        hasher.write(&[octet]);
        hasher.finish() as u32 & 0x00ff_ffff
    }
}

fn mss_table(subject: &Subject) -> &'static [u16; 8] {
    if subject.local.0.is_ipv4() { &MSS_V4 } else { &MSS_V6 }
}

fn pad(id: u64) -> u8 {
    (id >> 56) as u8
}

/// The epoch at `now`, `ahead` of what time alone would say.
#[must_use]
pub fn epoch_at(now: Instant, ahead: u64) -> u64 {
    now.as_secs() / EPOCH.as_secs() + ahead
}

#[cfg(test)]
#[path = "cookie_tests.rs"]
mod tests;
