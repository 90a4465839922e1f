//! The words of a command line of `trust`.

use std::env;
use std::ffi::{OsStr, OsString};

/// The value of `--name`, the last one where there are several; `None`: there is none, or an empty one.
pub(crate) fn option(name: &str, words: &[OsString]) -> Option<String> {
    let alone = format!("--{name}");
    let joined = format!("--{name}=");
    let mut value = String::new();
    let mut words = words.iter().map(|word| word.to_string_lossy()).peekable();
    while let Some(word) = words.next() {
        if word == alone.as_str() {
            value = words.peek().map(|next| next.to_string()).unwrap_or_default();
        } else if let Some(rest) = word.strip_prefix(&joined) {
            value = rest.to_owned();
        }
    }
    (!value.is_empty()).then_some(value)
}

/// What `trust serve` is started with: first what TRUST_ARGS says.
pub(crate) fn serve(words: &[OsString]) -> Vec<OsString> {
    let further = env::var("TRUST_ARGS").unwrap_or_default();
    let mut all = vec![OsString::from("serve")];
    all.extend(further.split_whitespace().map(OsString::from));
    all.extend_from_slice(words);
    unless_given("address", "10.7.0.2/24", &mut all);
    all
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
    fn an_address_is_chosen_where_none_is_given() {
        let mut words = list(["serve", "--mtu", "1400"]);
        unless_given("mtu", "1500", &mut words);
        assert_eq!(words, list(["serve", "--mtu", "1400"]));
        unless_given("address", "10.7.0.2/24", &mut words);
        assert_eq!(words, list(["serve", "--mtu", "1400", "--address", "10.7.0.2/24"]));
    }
}
