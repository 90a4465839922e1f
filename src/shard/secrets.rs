//! [`Secrets`]: what strangers must not guess of a host.

use std::io;

/// What must not be guessed, and what makes a history repeatable.
#[derive(Clone, Copy)]
pub struct Secrets {
    /// Key of initial sequence numbers and timestamp offsets (RFC 6528, RFC 7323 section 5.4).
    pub isn: [u8; 16],
    /// Key of the flow table: who knows it can make lookups slow.
    pub flows: [u8; 16],
    /// Where the choice of ports begins (RFC 6056).
    pub ports: u64,
    /// Secret of SYN cookies (RFC 4987 section 3.6).
    pub cookies: [u8; 16],
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// Drawn from a seed: for tests and simulations, not for hosts that strangers reach.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut secrets = Self { isn: [0; 16], flows: [0; 16], ports: dice.u64(..), cookies: [0; 16] };
        dice.fill(&mut secrets.isn);
        dice.fill(&mut secrets.flows);
        dice.fill(&mut secrets.cookies);
        secrets
    }

    /// Random ones from the kernel.
    ///
    /// # Errors
    ///
    /// The kernel gave no random numbers.
    pub fn random() -> io::Result<Self> {
        fn fill<const N: usize>() -> io::Result<[u8; N]> {
            let mut bytes = [0; N];
            getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(bytes)
        }
        Ok(Self { isn: fill()?, flows: fill()?, ports: u64::from_ne_bytes(fill()?), cookies: fill()? })
    }
}
