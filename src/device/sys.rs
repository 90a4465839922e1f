//! The few system calls that no crate in the tree offers. Everything here is called at set-up only.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::io::{Read, Write};
#[cfg(feature = "tun-tap")]
use std::net::Ipv4Addr;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Does an interface of this name exist in our network namespace?
pub(super) fn interface_exists(name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: the pointer is a NUL-terminated string that outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
}

pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `TUNGETIFF`: the flags (`IFF_*`) of the queue as granted.
pub(super) fn tun_flags(queue: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: `ifreq` is plain old data; all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes an `ifreq` through the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    // SAFETY: TUNGETIFF fills the flags member of the union; any bit pattern is a valid `c_short`.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags as u16))
}

/// `TUNGETVNETHDRSZ`: octets of the virtio-net header in front of every packet.
pub(super) fn vnet_header_len(queue: BorrowedFd<'_>) -> io::Result<usize> {
    let mut len: libc::c_int = 0;
    // SAFETY: the kernel writes one int through the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNGETVNETHDRSZ, &raw mut len) })?;
    Ok(usize::try_from(len).unwrap_or(0))
}

/// `TUNSETOFFLOAD`: what the kernel may leave undone in packets it gives us (`TUN_F_*`). State of the device, not of
/// the queue.
pub(super) fn set_offload(queue: BorrowedFd<'_>, mask: libc::c_uint) -> io::Result<()> {
    // SAFETY: the argument is a number, not a pointer.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(mask)) })
}

/// `TUNSETSTEERINGEBPF`: attaches a loaded socket-filter program to the device.
pub(super) fn set_steering(queue: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let program: libc::c_int = program.as_raw_fd();
    // SAFETY: the kernel reads one int through the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETSTEERINGEBPF, &raw const program) })
}

/// Puts a descriptor into non-blocking mode.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut on: libc::c_int = 1;
    // SAFETY: the kernel reads one int through the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &raw mut on) })
}

/// Gives an interface its IPv4 address, netmask and, if any, far end (`SIOCSIFADDR`, `SIOCSIFNETMASK`,
/// `SIOCSIFDSTADDR`).
#[cfg(feature = "tun-tap")]
pub(super) fn set_ipv4(name: &str, address: Ipv4Addr, prefix: u8, peer: Option<Ipv4Addr>) -> io::Result<()> {
    let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0));
    set_ipv4_field(name, libc::SIOCSIFADDR, address)?;
    set_ipv4_field(name, libc::SIOCSIFNETMASK, mask)?;
    peer.map_or(Ok(()), |peer| set_ipv4_field(name, libc::SIOCSIFDSTADDR, peer))
}

#[cfg(feature = "tun-tap")]
fn set_ipv4_field(name: &str, field: libc::Ioctl, address: Ipv4Addr) -> io::Result<()> {
    // Interface ioctls work on any socket of the address family.
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: `ifreq` is plain old data; all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last octet stays zero: names are NUL-terminated.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let value = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: `sockaddr_in` and `sockaddr` are both 16 octets of plain old data, and the union member is written whole.
    request.ifr_ifru.ifru_addr = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(value) };
    // SAFETY: the kernel reads an `ifreq` through the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), field, &raw const request) })
}

/// Sets the number of packets an interface queues, by one rtnetlink request: the ioctl (`SIOCSIFTXQLEN`) wants
/// CAP_NET_ADMIN of the whole machine, this one only that of the network namespace.
pub(super) fn set_tx_queue_len(name: &str, packets: u32) -> io::Result<()> {
    let mut body = link_message(name)?;
    push_attribute(&mut body, libc::IFLA_TXQLEN, &packets.to_ne_bytes());
    rtnetlink(libc::RTM_NEWLINK, 0, &body)
}

/// Gives an interface one more address: the ioctls know of one IPv4 address only, and of no flags. An IPv6 address is used
/// at once: nobody else is on the link who could have it, too (`IFA_F_NODAD`, RFC 4862 5.4).
pub(super) fn add_address(name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // struct ifaddrmsg: family, prefix, flags, scope (universe), index.
    let mut body = vec![family as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE];
    body.extend_from_slice(&interface_index(name)?.to_ne_bytes());
    match address {
        IpAddr::V4(address) => {
            push_attribute(&mut body, libc::IFA_LOCAL, &address.octets());
            push_attribute(&mut body, libc::IFA_ADDRESS, &address.octets());
        }
        IpAddr::V6(address) => {
            push_attribute(&mut body, libc::IFA_LOCAL, &address.octets());
            push_attribute(&mut body, libc::IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
        }
    }
    rtnetlink(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &body)
}

/// Waits, up to a second, until the kernel accepts what arrives for a new IPv6 address. A program may connect from it at
/// once, but the local route is entered by a work queue some time after the interface has come up, and until then an
/// answer is dropped: the SYN is sent again a second later. That route is for all 128 bits, and marked by a flag.
pub(super) fn await_ipv6(address: Ipv6Addr) {
    /// From linux/ipv6_route.h.
    const RTF_LOCAL: u32 = 0x8000_0000;
    let number = format!("{:032x}", address.to_bits());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        // A line: destination, its prefix, source, its prefix, next hop, metric, two counts, flags, interface.
        let Ok(routes) = std::fs::read_to_string("/proc/thread-self/net/ipv6_route") else { return };
        let in_use = routes.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (to, prefix, flags) = (fields.next(), fields.next(), fields.nth(6));
            let flags = flags.and_then(|flags| u32::from_str_radix(flags, 16).ok());
            to == Some(&*number) && prefix == Some("80") && flags.is_some_and(|flags| flags & RTF_LOCAL != 0)
        });
        if in_use {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has the kernel give an interface no link-local IPv6 address when it comes up, and so ask it for no routers either.
pub(super) fn no_link_local(name: &str) -> io::Result<()> {
    /// From linux/if_link.h: `IFLA_INET6_ADDR_GEN_MODE`, and `IN6_ADDR_GEN_MODE_NONE` of its values.
    const ADDR_GEN_MODE: u16 = 8;
    const NONE: u8 = 1;
    let (mut mode, mut family, mut body) = (Vec::new(), Vec::new(), link_message(name)?);
    push_attribute(&mut mode, ADDR_GEN_MODE, &[NONE]);
    push_attribute(&mut family, libc::AF_INET6 as u16, &mode);
    push_attribute(&mut body, libc::IFLA_AF_SPEC, &family);
    rtnetlink(libc::RTM_NEWLINK, 0, &body)
}

/// A struct ifinfomsg: family, type, index, flags, which of them change.
fn link_message(name: &str) -> io::Result<Vec<u8>> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&interface_index(name)?.to_ne_bytes());
    body.extend_from_slice(&[0; 8]);
    Ok(body)
}

pub(super) fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: the pointer is a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// A struct rtattr: length, type, value, and what fills it up to a multiple of four octets.
fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// One request to rtnetlink, and its answer. Numbers are in the machine's order.
fn rtnetlink(kind: u16, flags: libc::c_int, body: &[u8]) -> io::Result<()> {
    let socket = {
        // SAFETY: plain numbers go in, a new descriptor or -1 comes out.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
        check(fd)?;
        // SAFETY: the descriptor is new and nobody else's.
        File::from(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut request = Vec::with_capacity(16 + body.len());
    request.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16).to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(body);
    (&socket).write_all(&request)?;
    // NLMSG_ERROR: a struct nlmsghdr, then 0 or a negative errno.
    let mut answer = [0; 256];
    let len = (&socket).read(&mut answer)?;
    match answer[..len].get(16..20) {
        Some(&[0, 0, 0, 0]) => Ok(()),
        Some(&[a, b, c, d]) => Err(io::Error::from_raw_os_error(-i32::from_ne_bytes([a, b, c, d]))),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
