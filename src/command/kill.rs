//! `trust kill`: resets connections of a running engine, and says which.

use std::io::{self, Write};

use clap::Args;

use super::Error;
use super::control::client::Which;
use super::control::filter::{Filter, States};
use super::control::protocol::{Answer, Ask};
use super::ss::Table;

/// Options of `trust kill`.
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Which connections, in the language of ss (see trust ss): like dst 10.7.0.1:40000, or sport = :80. What listens stays.
    #[arg(value_name = "FILTER", trailing_var_arg = true, required_unless_present_any = ["id", "all"])]
    filter: Vec<String>,

    /// The one that has this Id in trust ss, and no other that comes later.
    #[arg(long, value_name = "ID", conflicts_with_all = ["filter", "all"])]
    id: Option<String>,

    /// All connections.
    #[arg(long, conflicts_with = "filter")]
    all: bool,

    #[command(flatten)]
    which: Which,
}

impl Kill {
    pub(crate) fn run(self) -> Result<(), Error> {
        // A connection may be in any state when it is named.
        let states = if self.id.is_some() || self.all { States::ALL } else { States::USUAL };
        let filter = Filter::parse(&self.filter.join(" "), states).map_err(Error::Usage)?;
        if filter.is_empty() && self.id.is_none() && !self.all {
            let text = "only states are named; to reset all connections that have one, say --all and not the states";
            return Err(Error::Usage(text.to_owned()));
        }
        let mut client = self.which.connect()?;
        let (mut table, mut killed) = (Table::brief(), Vec::new());
        let ask = Ask::Reset { filter: filter.to_string(), id: self.id.clone() };
        client.ask(ask, |answer| {
            if let Answer::Socket(socket) = answer {
                table.widen(&socket);
                killed.push(*socket);
            }
            Ok(())
        })?;
        if killed.is_empty() {
            return Err(Error::Run("there is no such connection; nothing was reset".to_owned()));
        }
        let rows: String = killed.iter().map(|socket| table.row(socket)).collect();
        io::stdout().lock().write_all((table.header() + &rows).as_bytes()).map_err(Error::output)
    }
}
