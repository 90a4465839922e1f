//! The control socket of a running engine: a Unix socket for its user alone, by which other commands look at it.
//!
//! | file | holds |
//! | --- | --- |
//! | `protocol` | what is asked and answered, a line of JSON each |
//! | `socket` | where the socket is: who binds it, who finds it |
//! | `keeper` | the process that removes it at the end |
//! | `server`, `talk` | the thread that answers, and what it waits for |
//! | `client` | who asks |
//! | `metrics` | what is counted, as text, and on a port of our own stack |
//! | `filter` | which connections are meant, in the language of `ss` |
//! | `capture`, `events` | packets, and what senders decide, for one who asks |
//! | `session`, `merge` | observers on all shards, and the order of time over them |
//! | `packets` | what they look like on the socket |
//! | `packet_filter` | which packets are meant, in the language of tcpdump |
//!
//! Must not contain: how answers are shown.

mod capture;
pub(super) mod client;
mod events;
pub(super) mod filter;
mod keeper;
pub(super) mod merge;
mod metrics;
pub(super) mod packet_filter;
pub(super) mod packets;
pub(super) mod protocol;
mod server;
mod session;
mod socket;
mod talk;

/// Engines that are none, for tests of those who ask.
#[cfg(test)]
pub(super) mod testing {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::client::Client;

    /// What `ask` makes of an engine that answers so and hangs up.
    pub(in crate::command) fn answered<T>(answer: &str, ask: impl FnOnce(Client) -> T) -> T {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(answer.as_bytes()).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        let asked = ask(Client::on(ours).unwrap());
        let mut request = String::new();
        theirs.read_to_string(&mut request).unwrap();
        assert!(request.contains("\"ask\":"), "{request}");
        asked
    }
}

use std::os::unix::net::UnixListener;
use std::path::Path;

use trust::engine::Handle;

use self::keeper::Keeper;
pub(super) use self::metrics::Scraped;
pub(super) use self::server::{About, Server};
use self::socket::Place;
pub(super) use self::socket::Wanted;
use super::Error;
use super::fencing::Fencing;

/// A control socket in the making: each step at its time of the engine's start.
#[derive(Debug)]
pub(super) struct Control {
    place: Option<(Place, Keeper)>,
    listener: Option<UnixListener>,
}

impl Control {
    /// First, when nothing is open and there is no thread: forks who removes the socket in the end.
    pub(super) fn begin(wanted: Option<&Wanted>, device: &str, fencing: &Fencing) -> Result<Self, Error> {
        let place = Place::of(wanted, device)?;
        let place = place.map(|place| Keeper::fork(fencing, &place.path).map(|keeper| (place, keeper))).transpose()?;
        Ok(Self { place, listener: None })
    }

    /// Before rights are given up: binds.
    pub(super) fn bind(&mut self) -> Result<(), Error> {
        if let Some((place, keeper)) = &self.place {
            self.listener = place.bind()?;
            if self.listener.is_some()
                && let Err(error) = keeper.keep(&place.path)
            {
                tracing::warn!("{} stays when the engine is gone: {error}", place.path.display());
            }
        }
        Ok(())
    }

    /// Where the socket is, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.listener.as_ref().and(self.place.as_ref()).map(|(place, _)| &*place.path)
    }

    /// Before the fence is closed: begins to answer, and to be scraped at a port of our own. The socket is removed when what
    /// comes back has gone.
    pub(super) fn serve(
        self,
        handle: Handle,
        about: About,
        scraped: Option<Scraped>,
    ) -> Result<Option<(Server, Option<Keeper>)>, Error> {
        let keeper = self.place.map(|(_, keeper)| keeper);
        if self.listener.is_none() && scraped.is_none() {
            return Ok(None);
        }
        Ok(Some((Server::start(self.listener, scraped, handle, about)?, keeper)))
    }
}
