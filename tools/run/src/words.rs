//! The words of a command line of `trust`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;

/// The value of `--name`, the last one where there are several; `None`: there is none, or an empty one.
pub(crate) fn option(name: &str, words: &[OsString]) -> Option<String> {
    options(name, words).pop().filter(|value| !value.is_empty())
}

/// All values of `--name`.
fn options(name: &str, words: &[OsString]) -> Vec<String> {
    let alone = format!("--{name}");
    let joined = format!("--{name}=");
    let mut values = Vec::new();
    let mut words = words.iter().map(|word| word.to_string_lossy()).peekable();
    while let Some(word) = words.next() {
        if word == alone.as_str() {
            values.push(words.peek().map(|next| next.to_string()).unwrap_or_default());
        } else if let Some(rest) = word.strip_prefix(&joined) {
            values.push(rest.to_owned());
        }
    }
    values
}

/// What `trust serve` is started with: first what TRUST_ARGS says.
pub(crate) fn serve(words: &[OsString]) -> Vec<OsString> {
    let further = env::var("TRUST_ARGS").unwrap_or_default();
    let mut all = vec![OsString::from("serve")];
    all.extend(further.split_whitespace().map(OsString::from));
    all.extend_from_slice(words);
    all
}

/// The engine's addresses with their prefixes: those that are given, or what it chooses on that subnet.
pub(crate) fn addresses(subnet: u8, words: &[OsString]) -> Vec<String> {
    let given = options("address", words);
    if !given.is_empty() {
        return given;
    }
    let mut chosen = vec![format!("10.7.{subnet}.2/24")];
    let disabled = fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6");
    let large_enough = option("mtu", words).is_none_or(|mtu| mtu.parse::<u16>().is_ok_and(|mtu| mtu >= 1_280));
    if large_enough && disabled.is_ok_and(|text| text.trim() == "0") {
        let network = if subnet == 0 { String::new() } else { format!("0:{subnet}:") };
        chosen.push(format!("fd00:7:{network}:2/64"));
    }
    chosen
}

/// Whether an address, perhaps with a prefix, is one of IPv6.
pub(crate) fn is_ipv6(address: &str) -> bool {
    address.contains(':')
}

/// Adds an option that is not among the words.
pub(crate) fn unless_given(name: &str, value: &str, words: &mut Vec<OsString>) {
    if option(name, words).is_none() {
        words.push(format!("--{name}").into());
        words.push(value.into());
    }
}

/// A list of words from pieces of several kinds.
pub(crate) fn list<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Vec<OsString> {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_an_option_counts() {
        for (words, value) in [
            (&["serve"][..], None),
            (&["serve", "--drain", "7"], Some("7")),
            (&["serve", "--drain=7", "--drain", "8"], Some("8")),
            (&["serve", "--drain", "7", "--drain=8"], Some("8")),
            (&["serve", "--drainage", "7"], None),
            (&["serve", "--drain", ""], None),
            (&["serve", "--drain"], None),
        ] {
            assert_eq!(option("drain", &list(words)).as_deref(), value, "{words:?}");
        }
    }

    #[test]
    fn an_option_is_added_where_it_is_not_given() {
        let mut words = list(["serve", "--mtu", "1400"]);
        unless_given("mtu", "1500", &mut words);
        assert_eq!(words, list(["serve", "--mtu", "1400"]));
        unless_given("tun", "trust1", &mut words);
        assert_eq!(words, list(["serve", "--mtu", "1400", "--tun", "trust1"]));
    }

    #[test]
    fn addresses_are_those_given_or_the_engines_own_choice() {
        let given = list(["serve", "--address", "10.9.0.2/24", "--address=fd00:9::2/64"]);
        assert_eq!(addresses(0, &given), ["10.9.0.2/24", "fd00:9::2/64"]);
        for (subnet, ipv4, ipv6) in [(0, "10.7.0.2/24", "fd00:7::2/64"), (1, "10.7.1.2/24", "fd00:7:0:1::2/64")] {
            let chosen = addresses(subnet, &list(["serve"]));
            assert!(chosen == [ipv4] || chosen == [ipv4, ipv6], "{chosen:?}");
            assert_eq!(addresses(subnet, &list(["serve", "--mtu", "1279"])), [ipv4]);
        }
    }
}
