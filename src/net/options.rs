//! Options of a stream, and what it tells of its connection.

use std::io;
use std::time::Duration;

use super::settings::{Change, LEAST_BUFFER};
use super::socket::{Answer, is};
use super::stream::{TcpStream, not_connected};
use crate::tcp::{self, CongestionControl, Info, KeepAlive};

/// Has the shard read its mail, where the caller has it at hand.
pub(crate) type Serve<'a> = Option<&'a mut dyn FnMut()>;

/// What Linux allows for TCP_MAXSEG.
const MAXSEG: std::ops::RangeInclusive<u16> = 88..=32_767;

/// The place of fast open.
pub(crate) fn no_fastopen(wanted: bool) -> io::Result<()> {
    if wanted {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "TCP Fast Open is not implemented"));
    }
    Ok(())
}

/// Options beyond those of `std`, and what the connection looks like from inside.
impl TcpStream {
    /// Probes a silent peer (SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT), or no longer.
    pub fn set_keepalive(&self, keepalive: Option<KeepAlive>) {
        let mut rare = self.handle().settings.rare();
        rare.keepalive = keepalive.is_some();
        rare.times = keepalive.or(rare.times);
        drop(rare);
        self.handle().socket.change(Change::KeepAlive(keepalive));
    }

    /// What [`set_keepalive`](Self::set_keepalive) was given last.
    #[must_use]
    pub fn keepalive(&self) -> Option<KeepAlive> {
        let rare = *self.handle().settings.rare();
        rare.keepalive.then_some(rare.times.unwrap_or_default())
    }

    /// Sets the times of keep-alive without switching it on or off.
    pub fn set_keepalive_times(&self, times: KeepAlive) {
        let mut rare = self.handle().settings.rare();
        rare.times = Some(times);
        let on = rare.keepalive;
        drop(rare);
        if on {
            self.handle().socket.change(Change::KeepAlive(Some(times)));
        }
    }

    /// The times of keep-alive, whether it is on or off.
    #[must_use]
    pub fn keepalive_times(&self) -> KeepAlive {
        self.handle().settings.rare().times.unwrap_or_default()
    }

    /// Limits how long octets may stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482), and how long a handshake that goes on
    /// takes; `None`: as the engine has it.
    pub fn set_user_timeout(&self, limit: Option<Duration>) {
        self.handle().settings.rare().user_timeout = limit;
        self.handle().socket.change(Change::UserTimeout(limit.map(tcp::Duration::from)));
    }

    /// What [`set_user_timeout`](Self::set_user_timeout) was given last.
    #[must_use]
    pub fn user_timeout(&self) -> Option<Duration> {
        self.handle().settings.rare().user_timeout
    }

    /// Goes on with another congestion control (TCP_CONGESTION).
    pub fn set_congestion(&self, kind: CongestionControl) {
        self.handle().settings.rare().congestion = Some(kind);
        self.handle().socket.change(Change::Congestion(kind));
    }

    /// What [`set_congestion`](Self::set_congestion) was given last; `None`: as the engine has it.
    #[must_use]
    pub fn congestion(&self) -> Option<CongestionControl> {
        self.handle().settings.rare().congestion
    }

    /// Holds back what does not fill a segment (TCP_CORK); taken back, it is sent at once.
    pub fn set_cork(&self, cork: bool) {
        self.handle().settings.rare().cork = cork;
        self.handle().socket.change(Change::Cork(cork));
    }

    /// See [`set_cork`](Self::set_cork).
    #[must_use]
    pub fn cork(&self) -> bool {
        self.handle().settings.rare().cork
    }

    /// Acknowledges at once instead of with a delay (TCP_QUICKACK).
    pub fn set_quickack(&self, quick: bool) {
        self.handle().settings.rare().quickack = Some(quick);
        self.handle().socket.change(Change::QuickAck(quick));
    }

    /// What [`set_quickack`](Self::set_quickack) was given last; at first the connection decides by itself, and begins
    /// with `true`.
    #[must_use]
    pub fn quickack(&self) -> bool {
        self.handle().settings.rare().quickack.unwrap_or(true)
    }

    /// Remembers the flag (SO_OOBINLINE) and no more: urgent octets are always read in line here (RFC 6093).
    pub fn set_oobinline(&self, inline: bool) {
        self.handle().settings.rare().oobinline = inline;
    }

    /// See [`set_oobinline`](Self::set_oobinline).
    #[must_use]
    pub fn oobinline(&self) -> bool {
        self.handle().settings.rare().oobinline
    }

    /// Octets that may be queued and unacknowledged (SO_SNDBUF). Taken as given: nothing is doubled, as Linux does for its
    /// own records. What is queued already stays.
    pub fn set_send_buffer(&self, octets: u32) {
        let octets = octets.max(LEAST_BUFFER);
        self.handle().settings.rare().send_buffer = Some(octets);
        self.handle().writer().set_capacity(octets as usize);
        self.handle().socket.set_send_capacity(octets as usize);
        self.handle().socket.change(Change::SendBuffer(octets));
    }

    /// What [`set_send_buffer`](Self::set_send_buffer) was given last; `None`: as the engine has it.
    #[must_use]
    pub fn send_buffer(&self) -> Option<u32> {
        self.handle().settings.rare().send_buffer
    }

    /// Octets that may wait to be read (SO_RCVBUF); switches auto-tuning off. Taken as given. A window that the peer has
    /// is not taken back (SHLD-14), and more than the handshake's scale can express is not offered: for both,
    /// [set](super::TcpSocket::set_receive_buffer) it before the connection is opened.
    pub fn set_receive_buffer(&self, octets: u32) {
        let octets = octets.max(LEAST_BUFFER);
        self.handle().settings.rare().receive_buffer = Some(octets);
        self.handle().socket.change(Change::ReceiveBuffer(octets));
    }

    /// What [`set_receive_buffer`](Self::set_receive_buffer) was given last; `None`: as the engine has it.
    #[must_use]
    pub fn receive_buffer(&self) -> Option<u32> {
        self.handle().settings.rare().receive_buffer
    }

    /// Octets that may be queued unsent (TCP_NOTSENT_LOWAT), wherever they lie; `None`: as many as the queue and the send
    /// buffer take. With a limit, which is rounded up to a multiple of 256, a stream is writable when no more than half of
    /// that is unsent, and a write takes no more than what is missing to it.
    pub fn set_notsent_lowat(&self, octets: Option<u32>) {
        self.handle().settings.rare().notsent_lowat = octets;
        self.handle().socket.limit_unsent(octets);
        self.handle().socket.change(Change::NotSentLowWater(octets));
    }

    /// See [`set_notsent_lowat`](Self::set_notsent_lowat).
    #[must_use]
    pub fn notsent_lowat(&self) -> Option<u32> {
        self.handle().settings.rare().notsent_lowat
    }

    /// TTL or hop limit of its packets (IP_TTL).
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless from 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = u8::try_from(ttl).ok().filter(|ttl| *ttl > 0);
        let ttl = ttl.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        self.handle().settings.rare().ttl = Some(ttl);
        self.handle().socket.change(Change::Ttl(ttl));
        Ok(())
    }

    /// See [`set_ttl`](Self::set_ttl).
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.handle().settings.rare().ttl.unwrap_or(crate::wire::ip::DEFAULT_TTL).into())
    }

    /// The largest segment to be sent and taken (TCP_MAXSEG). It is agreed on in the handshake, so that here, as on Linux,
    /// it is checked and remembered, and changes nothing about the connection: set it before, in
    /// [`ConnectOptions::mss`](super::ConnectOptions::mss).
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless from 88 to 32,767.
    pub fn set_maxseg(&self, octets: u32) -> io::Result<()> {
        let octets = u16::try_from(octets).ok().filter(|octets| MAXSEG.contains(octets));
        let octets = octets.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        self.handle().settings.rare().maxseg = Some(octets);
        Ok(())
    }

    /// Octets of payload in a full segment that is sent, options subtracted (TCP_MAXSEG). Asks the shard. Before the
    /// handshake is complete what [`set_maxseg`](Self::set_maxseg) was given, or 536.
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn maxseg(&self) -> io::Result<u32> {
        let wish = self.handle().settings.rare().maxseg.unwrap_or(536);
        Ok(self.info().map_or(wish.into(), |info| info.mss))
    }

    /// DSCP of its packets, in the upper six bits (IP_TOS); the ECN bits are TCP's own and left out.
    pub fn set_tos(&self, tos: u8) {
        let tos = tos & !3;
        self.handle().settings.rare().tos = tos;
        self.handle().socket.change(Change::Tos(tos));
    }

    /// See [`set_tos`](Self::set_tos).
    #[must_use]
    pub fn tos(&self) -> u8 {
        self.handle().settings.rare().tos
    }

    /// Counters and estimates of the connection (TCP_INFO). Asks the shard, which takes about a turn; after the end of the
    /// connection they are what they were then.
    ///
    /// # Errors
    ///
    /// `NotConnected` before the handshake is complete, and if it never was; `WouldBlock` of a connection on an embedded
    /// host that shares the thread: ask [`Host::info`](crate::embed::Host::info).
    pub fn info(&self) -> io::Result<Info> {
        self.info_from(None)
    }

    pub(crate) fn info_from(&self, host: Serve<'_>) -> io::Result<Info> {
        let now = self.inquire_if_alive(host)?.and_then(|answer| answer.info);
        now.or_else(|| self.handle().socket.last_info()).ok_or_else(not_connected)
    }

    /// Octets received and not yet read (SIOCINQ): in the socket's queue and in its connection.
    ///
    /// # Errors
    ///
    /// `WouldBlock` as [`info`](Self::info). Of a connection that has ended what can still be read is counted.
    pub fn unread(&self) -> io::Result<usize> {
        self.unread_from(None)
    }

    pub(crate) fn unread_from(&self, host: Serve<'_>) -> io::Result<usize> {
        let more = self.inquire_if_alive(host)?.map_or(0, |answer| answer.unread as usize);
        Ok(self.handle().reader().len() + more)
    }

    /// Octets written that the peer has not acknowledged (SIOCOUTQ), sent or not.
    ///
    /// # Errors
    ///
    /// `WouldBlock` as [`info`](Self::info). Of a connection that has ended nothing waits any more.
    pub fn unacknowledged(&self) -> io::Result<usize> {
        self.unacknowledged_from(None)
    }

    pub(crate) fn unacknowledged_from(&self, host: Serve<'_>) -> io::Result<usize> {
        let Some(answer) = self.inquire_if_alive(host)? else { return Ok(0) };
        let writer = self.handle().writer();
        Ok(writer.len() + answer.unacknowledged as usize)
    }

    /// Octets written that were never sent (SIOCOUTQNSD).
    ///
    /// # Errors
    ///
    /// `WouldBlock` as [`info`](Self::info). Of a connection that has ended nothing waits any more.
    pub fn not_sent(&self) -> io::Result<usize> {
        self.not_sent_from(None)
    }

    pub(crate) fn not_sent_from(&self, host: Serve<'_>) -> io::Result<usize> {
        let Some(answer) = self.inquire_if_alive(host)? else { return Ok(0) };
        Ok(self.handle().writer().len() + answer.not_sent as usize)
    }

    /// As [`inquire`](Self::inquire); `None`: there is no connection (any more).
    fn inquire_if_alive(&self, host: Serve<'_>) -> io::Result<Option<Answer>> {
        match self.inquire(host) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How often who waited to read, and who waited to write, has been woken: what the hand-off between threads costs beside
    /// the copies.
    #[must_use]
    pub fn wake_ups(&self) -> (u32, u32) {
        let socket = &self.handle().socket;
        (socket.reading.wakes(), socket.writing.wakes())
    }

    /// Asks the shard; what the application did before is done by then.
    fn inquire(&self, host: Serve<'_>) -> io::Result<Answer> {
        let socket = &self.handle().socket;
        if !socket.is_born() || socket.state() & is::CLOSED != 0 {
            return Err(not_connected());
        }
        if host.is_none() && !socket.doorbell().may_wait() {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        let (reply, answers) = crossbeam::channel::bounded(1);
        if !socket.doorbell().inquire(socket.key(), reply) {
            return Err(not_connected());
        }
        // Dropped without an answer: the shard is gone.
        match host {
            Some(serve) => {
                serve();
                answers.try_recv().map_err(|_| not_connected())
            }
            None => answers.recv().map_err(|_| not_connected()),
        }
    }
}
