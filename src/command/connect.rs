//! `trust connect`: nc on our own stack, on the sockets that every program can use.
//!
//! One thread reads standard input and writes to the connection, this one reads from it and writes standard output. The
//! end of input is a FIN, and the peer's FIN does not end what we send: the command ends when both directions have.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use clap::Args;
use crossbeam::channel::{RecvTimeoutError, bounded};
use mio::{Events, Interest, Poll, Token};
use trust::net::{EventQueue, TcpStream};

use super::fencing::Inherited;
use super::outward::{self, Outward, explain};
use super::{Error, threads};

const BLOCK_LEN: usize = 64 << 10;

/// Options of `trust connect`.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Host name or address.
    host: String,

    /// Port.
    #[arg(value_parser = super::options::port, allow_negative_numbers = true)]
    port: u16,

    #[command(flatten)]
    outward: Outward,
}

impl Connect {
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.outward.check()
    }

    pub(crate) fn run(mut self, inherited: Inherited) -> Result<(), Error> {
        let fencing = self.outward.fence(inherited)?;
        let remotes = self.outward.resolve(&self.host, self.port)?;
        let Some(mut engine) = self.outward.start(1, fencing)? else { return Ok(()) };
        let result = outward::connect(&engine.stack(), &remotes).and_then(|(stream, remote)| {
            carry(&stream).map_err(|error| match error {
                End::Connection(error) => Error::Run(format!("{remote}: {}", explain(&error, true))),
                End::Local(error) => Error::output(error),
                End::Input(error) => Error::Run(format!("standard input: {error}")),
            })
        });
        engine.stop()?;
        result
    }
}

/// What went wrong: between the two stacks, or with our own standard output or input.
enum End {
    Connection(io::Error),
    Local(io::Error),
    Input(io::Error),
}

fn carry(stream: &TcpStream) -> Result<(), End> {
    // What comes in pieces is somebody's typing, or a protocol's: no piece is to wait for what answers the one before.
    stream.set_nodelay(true).map_err(End::Connection)?;
    let (tell, told) = bounded(1);
    let writer = stream.try_clone().map_err(End::Connection)?;
    let started = threads::start("stdin", move || {
        let _ = tell.send(send_input(writer));
    });
    started.map_err(End::Local)?;
    receive_output(stream)?;
    await_end(stream).map_err(End::Connection)?;
    // In good order our input has ended before. If not, it was told what there is to tell of the connection.
    match told.recv_timeout(Duration::from_secs(1)) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(End::Connection(io::ErrorKind::ConnectionReset.into()))
        }
    }
}

fn send_input(mut stream: TcpStream) -> Result<(), End> {
    let mut stdin = io::stdin().lock();
    let mut block = vec![0; BLOCK_LEN];
    // What cannot be read any more has ended, too, for the peer.
    let read = loop {
        match stdin.read(&mut block) {
            Ok(0) => break Ok(()),
            Ok(len) => stream.write_all(&block[..len]).map_err(End::Connection)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(End::Input(error)),
        }
    };
    match stream.shutdown(Shutdown::Write) {
        // It has ended meanwhile; how, the one who reads hears.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => read,
        result => result.map_err(End::Connection).and(read),
    }
}

fn receive_output(mut stream: &TcpStream) -> Result<(), End> {
    // Not `Stdout` itself, which keeps what follows the last newline: here it may be a prompt.
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(End::Local)?;
    let mut stdout = File::from(stdout);
    let mut block = vec![0; BLOCK_LEN];
    loop {
        match stream.read(&mut block).map_err(End::Connection)? {
            0 => return Ok(()),
            len => stdout.write_all(&block[..len]).map_err(End::Local)?,
        }
    }
}

/// Waits until there is no connection any more, in whatever way it ends: both FINs acknowledged, or a reset.
fn await_end(stream: &TcpStream) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut queue = EventQueue::new()?;
    poll.registry().register(&mut queue, Token(0), Interest::READABLE)?;
    queue.register(stream, Token(0), Interest::READABLE | Interest::WRITABLE);
    let mut events = Events::with_capacity(1);
    loop {
        let over = stream.peer_addr().is_err();
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        if over {
            return Ok(());
        }
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => queue.events().for_each(drop),
        }
    }
}
