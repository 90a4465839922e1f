//! The command line of an instrument: what is wrong with it takes one line, and the exit status is 2.

use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;

/// As [`Parser::parse`], but for errors: one line on stderr instead of several, and exit status 2.
#[must_use]
pub fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit(); // --help and --version
        }
        let program = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&program).file_name().unwrap_or_default();
        eprintln!("{}", refusal(&error, &name.to_string_lossy()));
        std::process::exit(2);
    })
}

/// What clap says over several lines, in one: what is wrong, without the usage and the hints below it.
fn refusal(error: &clap::Error, name: &str) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return format!("{name}: no subcommand; see --help");
    }
    let text = error.render().to_string();
    let wrong = text.split("\n\n").next().unwrap_or_default();
    let wrong = wrong.strip_prefix("error: ").unwrap_or(wrong);
    let wrong: Vec<&str> = wrong.lines().map(str::trim).collect();
    format!("{name}: {}; see --help", wrong.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "probe")]
    struct Arguments {
        #[arg(long)]
        rounds: Option<u32>,
        host: String,
        port: u16,
    }

    #[test]
    fn what_is_wrong_takes_one_line() {
        let cases: [(&[&str], &str); 4] = [
            (&["probe", "--nonsense"], "probe: unexpected argument '--nonsense' found; see --help"),
            (&["probe"], "probe: the following required arguments were not provided: <HOST> <PORT>; see --help"),
            (
                &["probe", "h", "70000"],
                "probe: invalid value '70000' for '<PORT>': 70000 is not in 0..=65535; see --help",
            ),
            (
                &["probe", "h", "1", "--rounds"],
                "probe: a value is required for '--rounds <ROUNDS>' but none was supplied; see --help",
            ),
        ];
        for (line, expected) in cases {
            let error = Arguments::try_parse_from(line).expect_err("wrong");
            assert_eq!(refusal(&error, "probe"), expected);
        }
    }
}
