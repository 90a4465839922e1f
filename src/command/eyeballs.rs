//! Happy Eyeballs (RFC 8305): of several addresses of a host the first that answers, without waiting long for those that
//! do not.
//!
//! The order is that of the resolver (RFC 6724), but that the families take turns. Each next address is tried when the one
//! before has failed, or has not answered for [`ATTEMPT_DELAY`]; those go on, and the first connection of all is taken.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// How long an address has before the next one is tried beside it (RFC8305-5).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// In the order in which they are tried: families take turns, and begin with that of the first (RFC8305-4).
pub(super) fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (mut these, mut others): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut order = Vec::with_capacity(addresses.len());
    these.reverse();
    others.reverse();
    while !these.is_empty() || !others.is_empty() {
        order.extend(these.pop());
        order.extend(others.pop());
    }
    order
}

/// A connection to the first of these addresses that answers; `Err`: what the last one to fail has said. The runtime needs
/// a clock where there are several.
pub(super) async fn first_that_answers<S, E, F>(
    addresses: &[SocketAddr],
    open: impl Fn(SocketAddr) -> F,
) -> Result<S, E>
where
    E: From<io::Error>,
    F: Future<Output = Result<S, E>>,
{
    let mut waiting = in_turn(addresses).into_iter();
    let mut racing: Vec<Pin<Box<F>>> = Vec::new();
    let mut failed = None;
    loop {
        racing.extend(waiting.next().map(|address| Box::pin(open(address))));
        if racing.is_empty() {
            return Err(failed.unwrap_or_else(|| io::Error::from(ErrorKind::NotFound).into()));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            biased;
            settled = first_settled(&mut racing) => match settled {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = Some(error),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if more => {}
        }
    }
}

/// The first result of several attempts, of which that one is taken out.
async fn first_settled<F: Future>(racing: &mut Vec<Pin<Box<F>>>) -> F::Output {
    std::future::poll_fn(|context| {
        for index in 0..racing.len() {
            if let Poll::Ready(result) = racing[index].as_mut().poll(context) {
                drop(racing.swap_remove(index));
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::RefCell;
    use std::future::pending;
    use std::time::Instant;

    use tokio::time::sleep;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn list(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|text| text.parse().unwrap()).collect()
    }

    /// What came of it, when the attempts began, and how long it took.
    fn race<F>(addresses: &str, open: impl Fn(SocketAddr) -> F) -> (Result<SocketAddr, String>, Vec<Duration>, Duration)
    where
        F: Future<Output = io::Result<SocketAddr>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (start, begun) = (Instant::now(), RefCell::new(Vec::new()));
        let result = runtime.block_on(first_that_answers(&list(addresses), |address| {
            begun.borrow_mut().push(start.elapsed());
            open(address)
        }));
        (result.map_err(|error: io::Error| error.to_string()), begun.into_inner(), start.elapsed())
    }

    #[test]
    fn rfc_8305_4_families_take_turns() {
        let order = in_turn(&list("[fd00::1]:1 [fd00::2]:1 [fd00::3]:1 10.0.0.1:1 10.0.0.2:1"));
        assert_eq!(order, list("[fd00::1]:1 10.0.0.1:1 [fd00::2]:1 10.0.0.2:1 [fd00::3]:1"));
        assert_eq!(in_turn(&list("10.0.0.1:1 [fd00::1]:1")), list("10.0.0.1:1 [fd00::1]:1"));
        assert!(in_turn(&[]).is_empty());
    }

    #[test]
    fn a_dead_address_costs_a_quarter_of_a_second() {
        let open = async |address: SocketAddr| {
            if address.is_ipv6() { pending().await } else { Ok(address) }
        };
        let (result, begun, took) = race("[fd00::1]:1 [fd00::2]:1 10.0.0.1:1 10.0.0.2:1", open);
        assert_eq!((result.unwrap(), begun.len()), ("10.0.0.1:1".parse().unwrap(), 2));
        assert!(begun[1] >= ATTEMPT_DELAY && took < MS * 300, "{begun:?} {took:?}");
    }

    #[test]
    fn one_that_fails_is_followed_at_once_and_a_late_answer_counts() {
        let open = async |address: SocketAddr| match address.port() {
            1 => Err(io::Error::other("refused")),
            2 => {
                sleep(ATTEMPT_DELAY + MS * 50).await;
                Ok(address)
            }
            _ => pending().await,
        };
        let (result, begun, _) = race("[fd00::1]:1 10.0.0.1:2 [fd00::1]:3", open);
        assert_eq!((result.unwrap(), begun.len()), ("10.0.0.1:2".parse().unwrap(), 3));
        assert!(begun[1] < ATTEMPT_DELAY, "{begun:?}");
    }

    #[test]
    fn when_all_fail_the_last_one_says_why() {
        let open = async |address: SocketAddr| Err(io::Error::other(format!("no {address}")));
        assert_eq!(race("[fd00::1]:1 10.0.0.1:2", open).0.unwrap_err(), "no 10.0.0.1:2");
        assert!(race("", open).0.is_err());
    }
}
