//! Who asks a running engine.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::super::Error;
use super::protocol::{Answer, Ask, Capturing, LONGEST_ANSWER, Request, VERSION};
use super::socket;

/// For so long an engine may be silent: longer than it waits for a shard.
const PATIENCE: Duration = Duration::from_secs(40);

/// Which engine is asked.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The control socket of the engine, as `serve --control` has it. Default: the one engine that runs.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

impl Which {
    pub(crate) fn connect(&self) -> Result<Client, Error> {
        Client::connect(self.control.as_deref())
    }
}

/// A connection to a control socket.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn connect(path: Option<&Path>) -> Result<Self, Error> {
        Self::on(socket::find(path)?)
    }

    /// On a connection that is there.
    pub(super) fn on(stream: UnixStream) -> Result<Self, Error> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and hands each line of the answer to `each`, but its end; how many lines that says there were.
    pub(crate) fn ask(&mut self, ask: Ask, mut each: impl FnMut(Answer) -> Result<(), Error>) -> Result<u64, Error> {
        let mut line = serde_json::to_vec(&Request { v: VERSION, ask })?;
        line.push(b'\n');
        // Whoever has no place for us says so, and does not read.
        let sent = self.stream.get_mut().write_all(&line);
        loop {
            line.clear();
            (&mut self.stream).take(LONGEST_ANSWER as u64).read_until(b'\n', &mut line).map_err(silence)?;
            if line.is_empty() {
                sent.map_err(silence)?;
                return Err(Error::Run("the engine has hung up; has it ended?".to_owned()));
            }
            // What a later engine says besides is skipped.
            match serde_json::from_slice(&line) {
                Ok(Answer::End { count }) => return Ok(count),
                Ok(Answer::Error(why)) => return Err(Error::Run(format!("the engine says: {why}"))),
                Ok(answer) => each(answer)?,
                Err(error) if error.is_data() => {}
                Err(error) => return Err(Error::Run(format!("the engine does not make sense: {error}"))),
            }
        }
    }
}

impl Client {
    /// The answer has no end of its own: silence for so long is none of the engine's.
    pub(crate) fn wait_at_most(&mut self, limit: Duration) -> Result<(), Error> {
        Ok(self.stream.get_ref().set_read_timeout(Some(limit.min(PATIENCE)))?)
    }

    /// Asks for packets, which come by what is returned, without a limit to the silence between them.
    pub(crate) fn capture(mut self, ask: Ask) -> Result<(Capturing, BufReader<UnixStream>), Error> {
        let mut line = serde_json::to_vec(&Request { v: VERSION, ask })?;
        line.push(b'\n');
        let sent = self.stream.get_mut().write_all(&line);
        line.clear();
        (&mut self.stream).take(LONGEST_ANSWER as u64).read_until(b'\n', &mut line).map_err(silence)?;
        sent.map_err(silence)?;
        match serde_json::from_slice(&line) {
            Ok(Answer::Capture(capturing)) => {
                self.stream.get_ref().set_read_timeout(None)?;
                Ok((capturing, self.stream))
            }
            Ok(Answer::Error(why)) => Err(Error::Run(format!("the engine says: {why}"))),
            _ => Err(Error::Run("the engine does not know how to capture".to_owned())),
        }
    }
}

fn silence(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => Error::Run(format!("the engine has said nothing for {} s", PATIENCE.as_secs())),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Run("the engine has ended".to_owned()),
        _ => error.into(),
    }
}
