//! Notices that the MTU of an interface was changed (`ip link set trust0 mtu 1400`): the kernel tells it, by rtnetlink.
//!
//! Opened at set-up; later there is nothing but read(2) and, where messages were missed, write(2).

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{MtuWatch, sys};

/// Octets of a struct nlmsghdr, and of a struct ifinfomsg.
const HEADER_LEN: usize = 16;
const LINK_LEN: usize = 16;

/// Longest batch of messages that the kernel puts into one read, where there is room for it.
const BATCH_LEN: usize = 16 << 10;

/// Batches at one look, however many other interfaces come and go.
const BATCHES: usize = 16;

/// A socket that hears of changes of all interfaces, for one of them.
#[derive(Debug)]
pub(super) struct LinkWatch {
    socket: File,
    index: u32,
    batch: Box<[u8]>,
}

impl LinkWatch {
    /// Watches the interface of this name. The first [look](MtuWatch::changed) finds its present MTU.
    pub(super) fn open(name: &str) -> io::Result<Box<dyn MtuWatch>> {
        let index = sys::interface_index(name)?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain numbers go in, a new descriptor or -1 comes out.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        sys::check(fd)?;
        // SAFETY: the descriptor is new and nobody else's.
        let socket = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: `sockaddr_nl` is plain old data; all zero is a valid value.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the kernel reads an address of that length through the pointer, which is valid for the call.
        sys::check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
        let watch = Self { socket, index, batch: vec![0; BATCH_LEN].into() };
        watch.ask()?;
        Ok(Box::new(watch))
    }

    /// Asks for the present state; the answer is as a change.
    fn ask(&self) -> io::Result<()> {
        let mut request = [0; HEADER_LEN + LINK_LEN];
        request[..4].copy_from_slice(&((HEADER_LEN + LINK_LEN) as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
        request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
        // Behind the family and the type.
        request[HEADER_LEN + 4..HEADER_LEN + 8].copy_from_slice(&self.index.to_ne_bytes());
        (&self.socket).write_all(&request)
    }
}

impl MtuWatch for LinkWatch {
    fn fd(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }

    fn changed(&mut self) -> io::Result<Option<u16>> {
        let mut mtu = None;
        for _ in 0..BATCHES {
            match self.socket.read(&mut self.batch) {
                Ok(len) => mtu = mtu_in(&self.batch[..len], self.index).or(mtu),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Messages were lost: what is so now is what counts.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.ask()?,
                Err(error) => return Err(error),
            }
        }
        Ok(mtu)
    }
}

/// The MTU that the last of these messages about the interface tells.
fn mtu_in(mut messages: &[u8], index: u32) -> Option<u16> {
    let mut mtu = None;
    while let Some((len, message)) = take(messages, |head| u32::from_ne_bytes([head[0], head[1], head[2], head[3]])) {
        messages = messages.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        let kind = message.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        let about = message.get(HEADER_LEN + 4..HEADER_LEN + 8);
        if kind != Some(libc::RTM_NEWLINK) || about != Some(&index.to_ne_bytes()) {
            continue;
        }
        let mut attributes = message.get(HEADER_LEN + LINK_LEN..).unwrap_or(&[]);
        while let Some((len, attribute)) = take(attributes, |head| u16::from_ne_bytes([head[0], head[1]]).into()) {
            attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
            if let [a, b, value @ ..] = attribute.get(2..).unwrap_or(&[])
                && u16::from_ne_bytes([*a, *b]) == libc::IFLA_MTU
                && let Ok(value) = value.try_into().map(u32::from_ne_bytes)
            {
                mtu = Some(u16::try_from(value).unwrap_or(u16::MAX));
            }
        }
    }
    mtu
}

/// The first of things that begin with their length, and that; `None`: there is no whole one.
fn take(things: &[u8], len: impl Fn(&[u8; 4]) -> u32) -> Option<(usize, &[u8])> {
    let len = len(things.first_chunk()?) as usize;
    things.get(..len).filter(|_| len >= 4).map(|thing| (len, thing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut attribute = (4 + value.len() as u16).to_ne_bytes().to_vec();
        attribute.extend_from_slice(&kind.to_ne_bytes());
        attribute.extend_from_slice(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    fn message(kind: u16, index: u32, attributes: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER_LEN + LINK_LEN + attributes.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.resize(HEADER_LEN + 4, 0);
        message.extend_from_slice(&index.to_ne_bytes());
        message.resize(HEADER_LEN + LINK_LEN, 0);
        message.extend_from_slice(attributes);
        message
    }

    #[test]
    fn the_last_message_about_the_interface_counts() {
        let mtu = |value: u32| [attribute(3, b"trust0\0"), attribute(libc::IFLA_MTU, &value.to_ne_bytes())].concat();
        let new = |index, value| message(libc::RTM_NEWLINK, index, &mtu(value));
        assert_eq!(mtu_in(&[new(7, 1_400), new(8, 9_000), new(7, 1_300), new(9, 68)].concat(), 7), Some(1_300));
        assert_eq!(mtu_in(&new(7, 70_000), 7), Some(u16::MAX));
        assert_eq!(mtu_in(&message(libc::RTM_DELLINK, 7, &mtu(1_400)), 7), None);
        assert_eq!(mtu_in(&message(libc::RTM_NEWLINK, 7, &attribute(3, b"trust0\0")), 7), None);
        assert_eq!(mtu_in(&message(libc::RTM_NEWLINK, 7, &attribute(libc::IFLA_MTU, &[0; 2])), 7), None);
        // Cut anywhere, it is no message.
        let whole = new(7, 1_400);
        assert!((0..whole.len()).all(|len| mtu_in(&whole[..len], 7).is_none()));
        assert_eq!(mtu_in(&[0; 64], 7), None, "a length of nothing ends it");
    }
}
