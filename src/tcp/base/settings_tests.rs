//! The table of keys against the fields of `Config`, their docs, and text from outside.

#![allow(clippy::unwrap_used)]

use super::*;

/// Names of the fields of `Config` with their docs on one line, from its source. Those of a part of it are named
/// after both.
fn fields() -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for (name, docs) in fields_of("Config") {
        match name.as_str() {
            "rto" => fields.extend(fields_of("RtoLimits").into_iter().map(|(name, docs)| (name + "_rto", docs))),
            "keepalive_probes" => fields
                .extend(fields_of("KeepAlive").into_iter().map(|(name, docs)| (format!("keepalive_{name}"), docs))),
            _ => fields.push((name, docs)),
        }
    }
    fields
}

fn fields_of(part: &str) -> Vec<(String, String)> {
    let source = include_str!("config.rs");
    let body = source.split(&format!("pub struct {part} {{")).nth(1).unwrap().split("\n}").next().unwrap();
    let mut fields = Vec::new();
    let mut docs = String::new();
    for line in body.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push_str(doc);
        } else if let Some(field) = line.strip_prefix("pub ") {
            fields.push((field.split(':').next().unwrap().to_owned(), std::mem::take(&mut docs)));
        }
    }
    fields
}

#[test]
fn every_field_has_a_key_and_every_key_a_field() {
    let fields: Vec<_> = fields().into_iter().map(|(name, _)| name).collect();
    let keys: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    assert!(fields.len() >= 20, "the source was read: {fields:?}");
    assert_eq!(fields, keys);
}

#[test]
fn the_docs_name_the_real_defaults() {
    let default = Config::default();
    for ((name, docs), key) in fields().iter().zip(KEYS) {
        let told = docs.split("Default: ").nth(1).map(|rest| rest.trim_end_matches('.'));
        assert_eq!(told, Some(key.get(&default).as_str()), "{name}");
    }
}

/// A value that differs from the default, for each kind.
fn other(key: &Key) -> String {
    let default = key.get(&Config::default());
    match key.value {
        Switch(_) => (if default == "on" { "off" } else { "on" }).to_owned(),
        Count(_, _, max) => max.to_string(),
        Octets(_, _, max) => max.to_string(),
        Time(_, _, max) | TimeOrZero(_, _, max) => time(max),
        Buffer(_) => "1k..3M".to_owned(),
        Control(_) => "reno".to_owned(),
    }
}

/// Each key reads what it writes and changes its own field alone.
#[test]
fn keys_read_what_they_write_and_touch_nothing_else() {
    for key in KEYS {
        let mut config = Config::default();
        let text = other(key);
        assert_ne!(key.get(&config), text, "{}", key.name);
        config.set(key.name, &text).unwrap();
        assert_eq!(key.get(&config), text);
        for same in KEYS.iter().filter(|same| same.name != key.name) {
            assert_eq!(same.get(&config), same.get(&Config::default()), "{} after {}", same.name, key.name);
        }
        config.set(key.name, &key.get(&Config::default())).unwrap();
        assert_eq!(config, Config::default());
    }
}

#[test]
fn text_is_read_as_people_write_it() {
    for (text, wanted) in [
        ("0", Some(0)),
        ("200ms", Some(200_000_000)),
        ("2s", Some(2_000_000_000)),
        ("15min", Some(900_000_000_000)),
        ("2h", Some(7_200_000_000_000)),
        ("7us", Some(7_000)),
        ("7ns", Some(7)),
        ("", None),
        ("2", None),
        ("s", None),
        ("-2s", None),
        ("2 s", None),
        ("1.5s", None),
        ("2m", None),
        ("99999999999999999999s", None),
        ("18446744073709551615h", None),
    ] {
        assert_eq!(read_time(text).map(Duration::as_nanos), wanted, "{text:?}");
    }
    for (text, wanted) in [
        ("0", Some(0)),
        ("1000", Some(1_000)),
        ("64k", Some(65_536)),
        ("64K", Some(65_536)),
        ("6M", Some(6 << 20)),
        ("1G", Some(1 << 30)),
        ("4G", None),
        ("", None),
        ("k", None),
        ("-1", None),
        ("6MB", None),
        ("6\u{e4}", None),
    ] {
        assert_eq!(read_size(text), wanted, "{text:?}");
    }
    for (nanos, text) in [(0, "0"), (1_500_000, "1500us"), (75_000_000_000, "75s"), (120_000_000_000, "120s")] {
        assert_eq!(time(Duration::from_nanos(nanos)), text);
    }
    let mut config = Config::default();
    config.set("recv_buffer", "64k").unwrap();
    assert_eq!(config.recv_buffer, BufferLimits { initial: 65_536, max: 65_536 });
}

#[test]
fn a_refused_value_changes_nothing_and_tells_what_is_wanted() {
    for (key, text, told) in [
        ("nagle", "yes", "nagle=yes: not on or off (switch)"),
        ("congestion", "vegas", "congestion=vegas: not reno or cubic (name)"),
        ("initial_window", "0", "initial_window=0: must be 1 to 64"),
        ("initial_window", "300", "initial_window=300: not 1 to 64 (number)"),
        ("min_rto", "200", "min_rto=200: not 1ms to 60s (time, like 200ms, 2s, 5min or 1h)"),
        ("min_rto", "0", "min_rto=0: must be 1ms to 60s"),
        ("delayed_ack", "500ms", "delayed_ack=500ms: must be 0 to 499ms"),
        ("retransmit_limit", "1ms", "retransmit_limit=1ms: must be 0, or 1s to 24h"),
        ("min_mss", "47", "min_mss=47: must be 48 to 1460"),
        ("recv_buffer", "64k..", "recv_buffer=64k..: not 256 to 1G (octets, like 64k, or 64k..6M)"),
        ("send_buffer", "2G", "send_buffer=2G: must be 256 to 1G"),
    ] {
        let mut config = Config::default();
        assert_eq!(config.set(key, text).unwrap_err().to_string(), told);
        assert_eq!(config, Config::default());
    }
}

#[test]
fn an_unknown_key_is_named_on_one_line() {
    let error = Config::default().set("nodelay", "on").unwrap_err();
    assert_eq!(error.to_string(), "there is no TCP setting \"nodelay\"");
}

#[test]
fn the_help_has_a_row_for_each_key() {
    let help = Config::help();
    assert_eq!(help.lines().count(), 1 + KEYS.len());
    for (key, row) in KEYS.iter().zip(help.lines().skip(1)) {
        let cells: Vec<_> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!((cells[0], cells[1], cells[2]), (key.name, &*key.get(&Config::default()), &*key.bounds()), "{row}");
        assert_eq!(cells[4], key.meaning);
    }
}

#[test]
fn validation_covers_bounds_and_what_must_go_together() {
    assert_eq!(Config::default().validate(), Ok(()));
    let default = Config::default();
    for (config, told) in [
        (
            Config { rto: RtoLimits { min: secs(2), ..default.rto }, ..default },
            "min_rto=2s must not be above initial_rto=1s",
        ),
        (
            Config { rto: RtoLimits { max: secs(1), initial: secs(2), ..default.rto }, ..default },
            "initial_rto=2s must not be above max_rto=1s",
        ),
        (
            Config { recv_buffer: BufferLimits { initial: 2048, max: 1024 }, ..default },
            "recv_buffer=2k..1k: the first size is above the largest",
        ),
        (
            Config { send_buffer: BufferLimits { initial: 2048, max: 1024 }, ..default },
            "send_buffer=2k..1k: the first size is above the largest",
        ),
        (Config { sws_override: secs(2), ..default }, "sws_override=2s: must be 100ms to 1s"),
        (Config { initial_window: 0, ..default }, "initial_window=0: must be 1 to 64"),
    ] {
        assert_eq!(config.validate().unwrap_err().to_string(), told);
    }
}
