//! The `trust` command: reads the command line and hands over to [`command`].

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    match command::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if matches!(error, command::Error::BrokenPipe) {
                // Ends us, as it ends programs that do not ignore it.
                let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
                return ExitCode::from(error.exit_status());
            }
            eprintln!("trust: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
