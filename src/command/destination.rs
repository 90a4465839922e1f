//! Where a forwarding leads to: a host, by its address or by a name, which is looked up anew for the connections that come.
//!
//! One lookup at a time, and its answer is for all who wait: a resolver takes threads and descriptors, so that a crowd of
//! clients with a lookup each would take many.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use tokio::sync::{Notify, oneshot, watch};

use super::addresses::Families;
use super::outward::why_unresolved;
use super::threads;

/// What the name leads to, or why it leads nowhere.
type Found = Result<Arc<[SocketAddr]>, String>;

/// Where one forwarding leads to, the addresses found last, and whether somebody waits for others.
#[derive(Debug)]
pub(super) struct Destination {
    host: String,
    port: u16,
    /// Other addresses are of no use.
    families: Families,
    /// Somebody waits for an answer.
    asked: AtomicBool,
    wanted: Notify,
    found: watch::Sender<Found>,
}

impl Destination {
    pub(super) fn new(host: &str, port: u16, families: Families) -> Arc<Self> {
        let (asked, wanted) = (AtomicBool::new(false), Notify::new());
        let found = watch::Sender::new(Ok(Arc::from([])));
        Arc::new(Self { host: host.to_owned(), port, families, asked, wanted, found })
    }

    /// Looks up the name whenever somebody asks; ends with the runtime.
    pub(super) async fn look_up(self: Arc<Self>) {
        let resolver = Resolver::new(&self.host, self.port);
        if self.known().is_none() {
            // Where it may not begin now the first question says so.
            let _ = resolver.begin();
        }
        self.answer(|| resolver.look_up()).await;
    }

    async fn answer<F>(&self, look: impl Fn() -> F)
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        loop {
            self.wanted.notified().await;
            if self.asked.load(Ordering::Relaxed) {
                let found = look().await.map_err(|error| why_unresolved(&self.host, &error));
                // Who has asked meanwhile gets this answer, too.
                self.asked.store(false, Ordering::Relaxed);
                drop(self.found.send_replace(found.and_then(|all| self.usable(all))));
            }
        }
    }

    fn usable(&self, mut all: Vec<SocketAddr>) -> Found {
        all.retain(|address| self.families.have(address.ip()));
        if all.is_empty() { Err(format!("{} has no {}", self.host, self.families.noun())) } else { Ok(all.into()) }
    }

    /// Where it is, if nobody has to be asked: the host was given by its address.
    pub(super) fn known(&self) -> Option<io::Result<Arc<[SocketAddr]>>> {
        let address = self.host.parse::<IpAddr>().ok()?;
        Some(self.usable(vec![(address, self.port).into()]).map_err(io::Error::other))
    }

    /// Where it is now.
    pub(super) async fn addresses(&self) -> io::Result<Arc<[SocketAddr]>> {
        if let Some(known) = self.known() {
            return known;
        }
        let mut found = self.found.subscribe();
        self.asked.store(true, Ordering::Relaxed);
        self.wanted.notify_one();
        found.changed().await.map_err(io::Error::other)?;
        let found = found.borrow();
        found.clone().map_err(io::Error::other)
    }
}

/// Who asks the resolver of this machine, which blocks: a thread of its own. It begins before somebody waits and stays:
/// when a connection comes there may be no thread to be had, nor memory for one, where `tokio::net::lookup_host` panics.
#[derive(Debug)]
struct Resolver {
    host: String,
    port: u16,
    questions: OnceLock<mpsc::Sender<Answer>>,
}

/// Who is told what was found.
type Answer = oneshot::Sender<io::Result<Vec<SocketAddr>>>;

impl Resolver {
    fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, questions: OnceLock::new() }
    }

    /// The thread, which is tried again with each question where it could not begin.
    fn begin(&self) -> io::Result<&mpsc::Sender<Answer>> {
        if let Some(questions) = self.questions.get() {
            return Ok(questions);
        }
        let (questions, asked) = mpsc::channel::<Answer>();
        let (host, port) = (self.host.clone(), self.port);
        threads::start("resolver", move || {
            for answer in asked {
                // Nobody waits for it any more, perhaps.
                let _ = answer.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
            }
        })?;
        Ok(self.questions.get_or_init(|| questions))
    }

    async fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        let (told, found) = oneshot::channel();
        self.begin()?.send(told).map_err(io::Error::other)?;
        found.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::*;

    const IPV4: Families = Families { ipv4: true, ipv6: false };

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.unwrap() });
    }

    #[test]
    fn a_crowd_that_asks_at_once_costs_one_lookup() {
        run(async {
            let destination = Destination::new("host", 80, IPV4);
            let (lookups, go_on) = (Cell::new(0), Semaphore::new(0));
            let look = || async {
                lookups.set(lookups.get() + 1);
                go_on.acquire().await.unwrap().forget();
                Ok(vec!["[::1]:80".parse().unwrap(), "10.7.0.1:80".parse().unwrap()])
            };
            let mut crowd = JoinSet::new();
            let asked = async {
                for _ in 0..1_000 {
                    let destination = Arc::clone(&destination);
                    crowd.spawn(async move { destination.addresses().await });
                }
                while destination.found.receiver_count() < 1_000 {
                    tokio::task::yield_now().await;
                }
                go_on.add_permits(2);
                while let Some(answer) = crowd.join_next().await {
                    assert_eq!(*answer.unwrap().unwrap(), ["10.7.0.1:80".parse().unwrap()]);
                }
                // Whoever comes later hears what is so then.
                assert_eq!(lookups.get(), 1);
                assert!(destination.addresses().await.is_ok());
                assert_eq!(lookups.get(), 2);
            };
            tokio::select! {
                () = asked => {}
                () = destination.answer(look) => unreachable!("it answers for ever"),
            }
        });
    }

    #[test]
    fn who_has_no_address_of_use_is_told_so_by_name() {
        run(async {
            let destination = Destination::new("::1", 80, IPV4);
            let error = destination.addresses().await.unwrap_err().to_string();
            assert_eq!(error, "::1 has no IPv4 address");
            let destination = Destination::new("10.7.0.1", 80, Families { ipv4: false, ipv6: true });
            assert_eq!(destination.addresses().await.unwrap_err().to_string(), "10.7.0.1 has no IPv6 address");
            let destination = Destination::new("::1", 80, Families::BOTH);
            assert_eq!(*destination.addresses().await.unwrap(), ["[::1]:80".parse().unwrap()]);

            let destination = Destination::new("nowhere", 80, Families::BOTH);
            let look = || async { Err(io::Error::other("failed to lookup address information: no such thing")) };
            tokio::select! {
                () = destination.answer(look) => unreachable!("it answers for ever"),
                found = destination.addresses() => {
                    let error = found.unwrap_err().to_string();
                    assert_eq!(error, "nowhere: the name cannot be resolved (no such thing)");
                }
            }
        });
    }
}
