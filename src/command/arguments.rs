//! The command line, and which subcommand it means.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::error::Error;
use super::fencing::Inherited;
use super::{capture, connect, console, events, fetch, iperf3, kill, refusal, serve, ss, stats};

/// A user-space TCP engine: answers for its own IP address behind a TUN device.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Look at the arguments and end: for run.sh, before it changes anything.
    #[arg(long, hide = true)]
    check: bool,

    /// End when this process has ended, our parent: for run.sh.
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<u32>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer for an address: echo, discard, daytime, chargen, http and an iperf3 server; forward, reverse and
    /// echo-sockets when asked for.
    Serve(serve::Serve),
    /// Connect to a host and port like nc: standard input goes out, what comes back goes to standard output.
    Connect(connect::Connect),
    /// Fetch a page by HTTP/1.1; the status line goes to standard error.
    Fetch(fetch::Fetch),
    /// Measure against an iperf3 server, as the stock client does.
    Iperf3(Box<iperf3::Iperf3>),
    /// Show the connections of a running engine, as `ss -tin` shows the kernel's.
    Ss(ss::Ss),
    /// Reset connections of a running engine, as `ss -K` does the kernel's.
    Kill(kill::Kill),
    /// Show the counters of a running engine.
    Stats(stats::Stats),
    /// Write the packets of a running engine to a file, as tcpdump does those of an interface.
    Capture(capture::Capture),
    /// Tell what the senders of a running engine decide: windows, samples, losses and what is done about them.
    Events(events::Events),
}

/// Runs what the command line of this process says.
pub(crate) fn main() -> Result<(), Error> {
    let inherited = Inherited::look();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // What was asked for goes to standard output.
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return error.print().map_err(Error::output);
        }
        Err(error) => {
            return Err(Error::Usage(refusal::flatten(&error, &Arguments::command(), std::env::args().skip(1))));
        }
    };
    if arguments.check {
        return match arguments.command {
            Command::Serve(serve) => serve.check(),
            Command::Connect(connect) => connect.check(),
            Command::Fetch(fetch) => fetch.check(),
            Command::Iperf3(iperf3) => iperf3.check(),
            Command::Ss(_) | Command::Kill(_) | Command::Stats(_) | Command::Capture(_) | Command::Events(_) => Ok(()),
        };
    }
    arguments.parent.map_or(Ok(()), end_with)?;
    // A file at the limit of its size (ulimit -f) is a full one, and no reason to end.
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    match arguments.command {
        Command::Serve(serve) => serve.run(inherited),
        Command::Connect(connect) => connect.run(inherited),
        Command::Fetch(fetch) => fetch.run(inherited),
        Command::Iperf3(iperf3) => iperf3.run(inherited),
        Command::Ss(ss) => ss.run(),
        Command::Kill(kill) => kill.run(),
        Command::Stats(stats) => stats.run(),
        Command::Capture(capture) => capture.run(),
        Command::Events(events) => events.run(),
    }
}

/// Has the kernel end us when our parent ends, which is to be this process. Whoever starts us could ask for it, but it
/// is forgotten when a program begins that carries capabilities (prctl(2)).
fn end_with(parent: u32) -> Result<(), Error> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    match getppid() {
        Some(pid) if pid.as_raw_nonzero().get().unsigned_abs() == parent => Ok(()),
        _ => Err(Error::Run(format!("--parent {parent}: that is not our parent, or not any more"))),
    }
}

/// Says what went wrong, if anything did, and has what was said before written.
pub(crate) fn last_words(error: Option<&Error>) {
    if let Some(error) = error {
        console::error().say(format!("trust: {error}\n"));
    }
    console::finish();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use trust::shard::{Route, Routes};
    use trust::tcp;
    use trust::tcp::cookie::SynCookies;

    use super::*;

    #[test]
    fn syn_cookies_are_used_when_the_user_says() {
        for (arguments, mode) in [
            (&[][..], SynCookies::Overflow),
            (&["--syn-cookies", "off"], SynCookies::Off),
            (&["--syn-cookies=overflow"], SynCookies::Overflow),
            (&["--syn-cookies", "always"], SynCookies::Always),
        ] {
            let line = ["trust", "serve"].iter().chain(arguments);
            let Command::Serve(serve) = Arguments::try_parse_from(line).unwrap().command else { unreachable!() };
            assert_eq!(serve.engine_options().config(&[], 1).limits.syn_cookies, mode, "{arguments:?}");
        }
    }

    #[test]
    fn congestion_control_has_an_option_and_a_key() {
        for (arguments, name) in [
            (&[][..], "cubic"),
            (&["--congestion", "reno"], "reno"),
            (&["--tcp", "congestion=reno"], "reno"),
            (&["--congestion", "reno", "--tcp", "congestion=cubic"], "cubic"),
        ] {
            let line = ["trust", "serve"].iter().chain(arguments);
            let Command::Serve(serve) = Arguments::try_parse_from(line).unwrap().command else { unreachable!() };
            assert_eq!(serve.engine_options().tcp().unwrap().unwrap().congestion.name(), name);
        }
        let error = Arguments::try_parse_from(["trust", "serve", "--congestion", "vegas"]).unwrap_err().to_string();
        assert!(error.contains("\"vegas\" is no congestion control; there is reno, cubic"), "{error}");
    }

    #[test]
    fn tcp_settings_are_taken_in_order_and_checked_together() {
        let tcp = |settings: &[&str]| {
            let line = ["trust", "serve"].into_iter().chain(settings.iter().flat_map(|setting| ["--tcp", setting]));
            let Command::Serve(serve) = Arguments::try_parse_from(line).unwrap().command else { unreachable!() };
            serve.engine_options().tcp().map_err(|error| error.to_string())
        };
        assert_eq!(tcp(&[]).unwrap(), Some(tcp::Config::default()));
        let both = tcp(&["nagle=off", "min_rto=30s", "initial_rto=40s", "nagle=on"]).unwrap().unwrap();
        let wanted = tcp::Duration::from_secs(30);
        assert_eq!((both.nagle, both.rto.min), (true, wanted));
        assert_eq!(tcp(&["nagle=off", "help"]), Ok(None));
        assert_eq!(tcp(&["min_rto=30s"]).unwrap_err(), "--tcp: min_rto=30s must not be above initial_rto=1s");
        assert_eq!(tcp(&["nagle"]).unwrap_err(), "--tcp nagle: not KEY=VALUE; --tcp help lists the keys");
        let unknown = |rest| format!("--tcp: there is no TCP setting {rest}--tcp help lists them");
        assert_eq!(tcp(&["nagel=on"]).unwrap_err(), unknown("\"nagel\"; perhaps nagle? "));
        assert_eq!(tcp(&["bogus=1"]).unwrap_err(), unknown("\"bogus\"; "));
    }

    #[test]
    fn routes_are_read_and_kept_to_what_is_ours() {
        let routes = |words: &[&str]| {
            let line = [&["trust", "serve"], words].concat();
            let Command::Serve(serve) = Arguments::try_parse_from(line).map_err(|e| e.to_string())?.command else {
                unreachable!()
            };
            let ours = ["10.7.0.2/24", "fd00:7::2/64"].map(|text| text.parse().unwrap());
            serve.engine_options().routes(&ours).map_err(|error| error.to_string())
        };
        let network = |text: &str, prefix| Route::to(text.parse().unwrap(), prefix).unwrap();
        let table = |more: &[Route]| {
            let mut table = Routes::none();
            table.add(Route::on_link([10, 7, 0, 2].into(), 24).unwrap());
            table.add(Route::on_link("fd00:7::2".parse().unwrap(), 64).unwrap());
            more.iter().for_each(|route| table.add(*route));
            table
        };
        let everywhere = [network("0.0.0.0", 0), network("::", 0)];
        assert_eq!(routes(&[]).unwrap(), table(&everywhere));
        assert_eq!(routes(&["--route", "default"]).unwrap(), table(&everywhere));
        assert_eq!(
            routes(&["--route", "2001:db8::/32", "--route", "default,src=fd00:7::2"]).unwrap(),
            table(&[network("2001:db8::", 32), network("::", 0).from("fd00:7::2".parse().unwrap())])
        );
        assert_eq!(routes(&["--route", "2001:db8::1"]).unwrap(), table(&[network("2001:db8::1", 128)]));
        assert_eq!(routes(&["--route", "10.9.0.0/16"]).unwrap(), table(&[network("10.9.0.0", 16)]));
        let source = [10, 7, 0, 2].into();
        assert_eq!(
            routes(&["--route", "default", "--route", "192.0.2.1,src=10.7.0.2"]).unwrap(),
            table(&[network("0.0.0.0", 0), network("::", 0), network("192.0.2.1", 32).from(source)])
        );
        for (wrong, said) in [
            ("10.9.0.0/33", "33 bits is longer"),
            ("10.9/16", "not default or a network"),
            ("2001:db8::/129", "129 bits is longer"),
            ("10.9.0.0/16,src=fd00:7::2", "of the other family"),
            ("default,src=fd00:7::1", "fd00:7::1 is no address of ours"),
            ("10.9.0.0/16,src=x", "not default or a network"),
            ("default,src=10.7.0.1", "10.7.0.1 is no address of ours"),
        ] {
            let error = routes(&["--route", wrong]).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
