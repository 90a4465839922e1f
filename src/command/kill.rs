//! `trust kill`: resets connections of a running engine, and says which.

use std::io::{self, Write};

use clap::Args;

use super::Error;
use super::control::client::{Client, Which};
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
        let client = self.which.connect()?;
        reset(client, Ask::Reset { filter: filter.to_string(), id: self.id }, &mut io::stdout().lock())
    }
}

/// Shows what was reset, also where the answer ends early: that is not undone.
fn reset(mut client: Client, ask: Ask, output: &mut impl Write) -> Result<(), Error> {
    let (mut table, mut killed) = (Table::brief(), Vec::new());
    let asked = client.ask(ask, |answer| {
        if let Answer::Socket(socket) = answer {
            table.widen(&socket);
            killed.push(*socket);
        }
        Ok(())
    });
    if !killed.is_empty() {
        let rows: String = killed.iter().map(|socket| table.row(socket)).collect();
        output.write_all((table.header() + &rows).as_bytes()).map_err(Error::output)?;
    }
    asked?;
    if killed.is_empty() {
        return Err(Error::Run("there is no such connection; nothing was reset".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::control::testing;
    use super::*;

    /// What the command prints, and whether it succeeds, with an engine that answers so.
    fn killed(answer: &'static str) -> (String, String) {
        let mut output = Vec::new();
        let ask = Ask::Reset { filter: "sport = :7".to_owned(), id: None };
        let error = testing::answered(answer, |client| reset(client, ask, &mut output)).err();
        (String::from_utf8(output).unwrap(), error.map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn what_was_reset_is_shown_when_the_answer_ends_early() {
        const ONE: &str = "{\"socket\":{\"id\":\"0c7.0\",\"state\":\"ESTAB\",\"shard\":0,\"local\":\"10.7.0.2:7\",\
                           \"peer\":\"10.7.0.1:40000\",\"recv_q\":0,\"send_q\":0}}\n";
        for (end, said) in [
            ("", "the engine has hung up"),
            ("{\"error\":\"a shard has not answered for 10 s\"}\n", "the engine says: a shard has not answered"),
            ("{\"end\":{\"count\":1}}\n", ""),
        ] {
            let (output, error) = killed(String::leak(format!("{ONE}{end}")));
            assert!(output.lines().count() == 2 && output.contains("10.7.0.1:40000"), "{end}: {output:?}");
            assert!(error.contains(said) && error.is_empty() == said.is_empty(), "{end}: {error:?}");
        }
        let (output, error) = killed("{\"end\":{\"count\":0}}\n");
        assert!(output.is_empty() && error.contains("there is no such connection"), "{output}{error}");
    }
}
