//! Refusals of command lines: what is wrong and what to do about it, in one line.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use trust::engine::PlanError;

/// What is wrong with the options that a plan is made of, in the words of these options.
pub(crate) fn impossible_plan(error: &PlanError) -> String {
    match error {
        PlanError::NoWorkers => "--workers 0: at least one worker is needed; use --workers 1".to_owned(),
        PlanError::TooManyWorkers { workers, cpus } => format!(
            "--workers {workers} on {cpus} CPUs: at most one worker runs on a CPU; use --workers {cpus} or --pin none"
        ),
        PlanError::NoSuchCpu { cpu, usable } => {
            let usable: Vec<_> = usable.iter().map(ToString::to_string).collect();
            format!("--pin {cpu}: this process may not use such a CPU; there are {}", usable.join(", "))
        }
        PlanError::TooFewCpus { cpus, workers } => format!(
            "--pin names fewer CPUs ({cpus}) than --workers {workers}; name one for each worker, or use --workers {cpus}"
        ),
        other => format!("--pin, --workers: {other}"),
    }
}

/// What clap says of `arguments` over several lines, in one. `words`: what was typed.
pub(crate) fn flatten(
    error: &clap::Error,
    arguments: &clap::Command,
    mut words: impl Iterator<Item = String>,
) -> String {
    let commands: Vec<_> = arguments.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let command = words.find(|word| !word.starts_with('-')).filter(|word| commands.contains(word));
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(list)) => list.join(", "),
        _ => String::new(),
    };
    let help = match &command {
        Some(command) => format!("trust {command} --help"),
        _ => "trust --help".to_owned(),
    };
    // `--workers <N>` and `<PORT>` as they would be typed.
    let argument = word(ContextKind::InvalidArg);
    let argument = argument.split(' ').next().unwrap_or_default().trim_matches(['<', '>']);
    let value = word(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "no subcommand; try: trust serve, or: trust --help".to_owned()
        }
        ErrorKind::InvalidSubcommand => {
            let name = word(ContextKind::InvalidSubcommand);
            format!("there is no subcommand {name:?}; there are {}, see {help}", commands.join(", "))
        }
        ErrorKind::UnknownArgument => {
            let similar = word(ContextKind::SuggestedArg);
            if command.as_deref() == Some("iperf3") && ["-s", "--server"].contains(&argument) {
                return "iperf3 -s: this is the client; trust serve has the server, on port 5201".to_owned();
            }
            if !argument.starts_with('-') {
                one_too_many(argument, command.as_deref(), &help)
            } else if similar.is_empty() {
                format!("there is no option {argument}; {help} lists them")
            } else {
                format!("there is no option {argument}; perhaps {similar}? {help} lists them")
            }
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            format!("{argument} needs a value; {help} says which")
        }
        ErrorKind::InvalidValue => {
            format!("{argument} {value}: there is no such choice; it is one of {}", word(ContextKind::ValidValue))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("{argument} {value}: {why}")
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = argument_list(&word(ContextKind::InvalidArg));
            format!("{missing} is missing; {help} shows what goes where")
        }
        ErrorKind::ArgumentConflict => {
            let prior = word(ContextKind::PriorArg);
            let prior = prior.split(' ').next().unwrap_or_default().trim_matches(['<', '>']);
            if prior.is_empty() || prior == argument {
                format!("{argument} is given twice; leave one out")
            } else {
                format!("{argument} and {prior} exclude each other; leave one out")
            }
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            format!("{}; see {help}", first.trim_start_matches("error: "))
        }
    }
}

/// A word that is no option, where none is expected.
fn one_too_many(word: &str, command: Option<&str>, help: &str) -> String {
    match command {
        // As tcpdump has it.
        Some(command @ ("capture" | "events")) => {
            format!("{word:?} is one word too many; is it the filter? trust {command} --filter 'tcp port 80'")
        }
        _ => format!("{word:?} is one word too many; {help} shows what goes where"),
    }
}

/// `<HOST>, <PORT>` as `HOST, PORT`.
fn argument_list(text: &str) -> String {
    text.replace(['<', '>'], "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{CommandFactory, Parser};

    use super::super::arguments::Arguments;
    use super::*;

    #[test]
    fn an_impossible_plan_is_told_by_the_options_that_ask_for_it() {
        for (error, said) in [
            (PlanError::NoWorkers, "--workers 0: at least one"),
            (PlanError::TooManyWorkers { workers: 3, cpus: 2 }, "--workers 3 on 2 CPUs: at most one"),
            (
                PlanError::NoSuchCpu { cpu: 99, usable: vec![0, 2] },
                "--pin 99: this process may not use such a CPU; there are 0, 2",
            ),
            (PlanError::SameCpu { cpu: 2 }, "--pin, --workers: CPU 2 is named twice"),
            (PlanError::TooFewCpus { cpus: 1, workers: 2 }, "--pin names fewer CPUs (1) than --workers 2; name one"),
        ] {
            let text = impossible_plan(&error);
            assert!(text.starts_with(said), "{text}");
        }
    }

    fn refusal(line: &str) -> String {
        let words: Vec<_> = std::iter::once("trust").chain(line.split_whitespace()).collect();
        let error = Arguments::try_parse_from(&words).err().unwrap_or_else(|| panic!("{line:?} is accepted"));
        flatten(&error, &Arguments::command(), words.into_iter().skip(1).map(str::to_owned))
    }

    /// Each is refused in one line which names what is wrong, and what would be right.
    #[test]
    fn command_lines_that_make_no_sense_are_refused_in_one_line_with_the_fix() {
        let table: &[(&str, &str, &str)] = &[
            ("", "no subcommand", "trust serve"),
            (
                "serv",
                "no subcommand \"serv\"",
                "there are serve, connect, fetch, iperf3, ss, kill, stats, capture, events, see trust --help",
            ),
            ("--colour", "no option --colour", "trust --help"),
            ("--check serve --colour", "no option --colour", "trust serve --help"),
            ("serve --worker 2", "no option --worker", "--workers"),
            ("serve --colour", "no option --colour", "trust serve --help"),
            ("serve now", "\"now\" is one word too many", "trust serve --help"),
            ("serve --workers abc", "--workers abc", "from 1"),
            ("serve --workers 0", "--workers 0", "from 1"),
            ("serve --workers -1", "--workers -1", "from 1"),
            ("serve --workers", "--workers needs a value", "trust serve --help"),
            ("serve --workers 1 --workers 2", "--workers is given twice", "leave one out"),
            ("serve --pin 0,0", "--pin 0,0", "one worker"),
            ("serve --pin x", "--pin x", "auto, none"),
            ("serve --pin -1", "--pin -1", "auto, none"),
            ("serve --impair nonsense", "--impair nonsense", "loss, reorder, dup, corrupt"),
            ("serve --impair foo=1", "--impair foo=1", "loss, reorder, dup, corrupt"),
            ("serve --impair loss=2", "--impair loss=2", "from 0 to 1"),
            ("serve --stats 0", "--stats 0", "from 1"),
            ("serve --stats -1", "--stats -1", "from 1"),
            ("serve --drain -1", "--drain -1", "from 0"),
            ("serve --drain 1.5", "--drain 1.5", "from 0"),
            ("serve --memory 1.5G", "--memory 1.5G", "take 1536M"),
            ("serve --stats soon", "--stats soon", "from 1"),
            ("serve --mtu 1", "--mtu 1:", "576 to 65520"),
            ("serve --mtu -5", "--mtu -5", "576 to 65520"),
            ("serve --device tap", "--device tap", "tun, tun-tap"),
            ("serve --log all", "--log all", "connections, segments"),
            ("serve --plan ring", "--plan ring", "auto, pipeline and fused"),
            ("serve --steer by-hand", "--steer by-hand", "auto, local, hash or learn"),
            ("serve --syn-cookies 1", "--syn-cookies 1", "off, overflow or always"),
            ("serve --syn-cookies", "--syn-cookies needs a value", "trust serve --help"),
            (
                "serve --service foo:1",
                "--service foo:1",
                "there are echo, discard, daytime, chargen, http, iperf3, forward, reverse, echo-sockets",
            ),
            ("serve --service echo:0", "--service echo:0", "from 1 to 65535"),
            ("serve --service echo", "--service echo", "echo:7"),
            ("serve --address 127.0.0.1/8", "--address 127.0.0.1/8: loopback", "10.7.0.2/24"),
            ("serve --address 224.0.0.1/24", "--address 224.0.0.1/24: multicast", "10.7.0.2/24"),
            ("serve --address 0.0.0.0/8", "--address 0.0.0.0/8", "10.7.0.2/24"),
            ("serve --address 0.1.2.3/8", "--address 0.1.2.3/8", "10.7.0.2/24"),
            ("serve --address 255.255.255.255/24", "--address 255.255.255.255/24", "10.7.0.2/24"),
            ("serve --address 240.0.0.1/24", "--address 240.0.0.1/24", "10.7.0.2/24"),
            ("serve --address 10.7.0.0/24", "--address 10.7.0.0/24", "10.7.0.1"),
            ("serve --address ::1/64", "--address ::1/64", "10.7.0.2/24"),
            ("capture -w x tcp port 80", "\"tcp\" is one word too many", "trust capture --filter 'tcp port 80'"),
            ("events dst port 80", "\"dst\" is one word too many", "trust events --filter 'tcp port 80'"),
            ("capture -w x --buffer 1k", "--buffer 1k", "64k to 1G"),
            ("connect", "HOST, PORT is missing", "trust connect --help"),
            ("connect 10.7.0.2", "PORT is missing", "trust connect --help"),
            ("connect 10.7.0.2 http", "PORT http", "from 1 to 65535"),
            ("connect 10.7.0.2 0", "PORT 0", "from 1 to 65535"),
            ("connect 10.7.0.2 70000", "PORT 70000", "from 1 to 65535"),
            ("connect 10.7.0.2 -7", "PORT -7", "from 1 to 65535"),
            ("fetch", "URL is missing", "trust fetch --help"),
            ("fetch http://host/ --colour", "no option --colour", "trust fetch --help"),
            ("iperf3", "is missing", "trust iperf3 --help"),
            ("iperf3 -s", "iperf3 -s: this is the client", "trust serve"),
            ("iperf3 -c host -b -1", "--bitrate -1", "from 1"),
            ("iperf3 -c host -n -1", "--bytes -1", "from 1"),
            ("iperf3 -c host -l -1", "--length -1", "from 1"),
            ("iperf3 -c host now", "\"now\" is one word too many", "trust iperf3 --help"),
            ("iperf3 -c host -R --bidir", "--reverse", "--bidir"),
            ("iperf3 -c host -R --bidir", "exclude each other", "leave one out"),
            ("iperf3 -c host -n 1M -t 3", "--time", "--bytes"),
            ("iperf3 -c host -n 1M -t 3", "exclude each other", "leave one out"),
            ("iperf3 -c host -R -R", "--reverse is given twice", "leave one out"),
        ];
        for (line, what, fix) in table {
            let said = refusal(line);
            assert!(!said.contains('\n'), "{line:?} takes more than a line: {said}");
            assert!(said.contains(what), "{line:?}: {said:?} does not say {what:?}");
            assert!(said.contains(fix), "{line:?}: {said:?} does not say {fix:?}");
        }
    }

    /// A terminal may be as narrow as that, and what is cut there is not read.
    #[test]
    fn help_is_at_most_100_columns_wide() {
        let mut command = Arguments::command();
        command.build();
        let pages: Vec<_> =
            command.get_subcommands_mut().map(|command| command.render_long_help().to_string()).collect();
        assert!(pages.len() >= 4);
        for line in pages.iter().flat_map(|page| page.lines()) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    #[test]
    fn good_command_lines_are_accepted() {
        for line in [
            "serve",
            "serve --workers 1 --pin 0 --stats 1 --mtu 576 --impair loss=0.1,seed=3",
            "serve --service echo:4242 --service iperf3:5202 --address 192.168.7.1/30 --plan fused --busy-poll",
            "serve --no-default-services --drain 0 --service echo:80",
            "connect localhost 7 --address 10.7.9.2/24 --tun trust9",
            "serve --control off --metrics 9100",
            "ss -tin state established ( sport = :7 or dport = :http ) dst 10.7.0.1",
            "ss --json --watch=2 -a",
            "kill --control /run/x dport = :40000",
            "stats --json",
        ] {
            let words = std::iter::once("trust").chain(line.split_whitespace());
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
