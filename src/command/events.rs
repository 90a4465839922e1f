//! `trust events`: what the senders of a running engine decide, a line of JSON each.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Args;

use super::control::client::Which;
use super::control::packet_filter::PacketFilter;
use super::control::protocol::{Answer, Ask};
use super::{Error, threads};

/// Options of `trust events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Which connections: by what a packet of the peer's would have to be, in the language of tcpdump, like 'dst port 80 and
    /// src net 10.7.0.0/24'. Without it: all.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,

    /// One connection in so many.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    sample: u32,

    /// End after so many events.
    #[arg(short, long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,

    #[command(flatten)]
    which: Which,
}

impl Events {
    pub(crate) fn run(self) -> Result<(), Error> {
        PacketFilter::parse(&self.filter).map_err(Error::Usage)?;
        let ask = Ask::Events { filter: self.filter.clone(), sample: self.sample };
        let end = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
        let mut left = self.count.unwrap_or(u64::MAX);
        let (mut output, mut told, mut done) = (io::stdout().lock(), false, false);
        let mut client = self.which.connect()?;
        if let Some(seconds) = self.seconds {
            client.wait_at_most(Duration::from_secs(seconds.into()))?;
        }
        let asked = client.ask(ask, |answer| {
            if !std::mem::replace(&mut told, true) {
                threads::end_without_reader()?;
                eprintln!("listening; ^C ends it");
            }
            if let Answer::Event(event) = answer {
                let line = serde_json::to_string(&event)? + "\n";
                output.write_all(line.as_bytes()).and_then(|()| output.flush()).map_err(Error::output)?;
                left -= 1;
            }
            done = left == 0 || end.is_some_and(|end| Instant::now() >= end);
            // No other way out of an answer that has no end.
            if done { Err(Error::Run(String::new())) } else { Ok(()) }
        });
        match asked {
            Err(_) if done || end.is_some_and(|end| Instant::now() >= end) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                eprintln!("the engine has ended");
                Ok(())
            }
        }
    }
}
