//! The `trust` command: reads the command line and hands over to [`command`].

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    match command::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trust: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
