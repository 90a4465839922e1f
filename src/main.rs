//! The `trust` command: reads the command line and hands over to [`command`].

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    match command::main() {
        Ok(()) => {
            command::last_words(None);
            ExitCode::SUCCESS
        }
        Err(error) => {
            if matches!(error, command::Error::BrokenPipe) {
                // Ends us, as it ends programs that do not ignore it.
                let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
                return ExitCode::from(error.exit_status());
            }
            command::last_words(Some(&error));
            ExitCode::from(error.exit_status())
        }
    }
}
