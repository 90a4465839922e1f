//! The keys of [`Config`]: one table, from which bounds, setting by text, help and the tests of the docs follow.
//!
//! A new field of [`Config`] needs one entry in `KEYS`, and its docs must say `Default: TEXT.` as [`Key::get`] writes
//! it; a test asks for both.

use core::fmt::Write as _;

use crate::tcp::base::algorithm::CongestionControl;
use crate::tcp::base::config::{BufferLimits, Config, RtoLimits};
use crate::tcp::base::time::Duration;
use crate::tcp::base::units::{LARGEST_WINDOW, SMALLEST_BUFFER};

/// A tunable of [`Config`], as text knows it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name: that of the field.
    pub name: &'static str,
    /// What it does, in one line.
    pub meaning: &'static str,
    value: Value,
}

/// Where a value is, what it is, and its bounds.
#[derive(Clone, Copy, Debug)]
enum Value {
    Switch(fn(&mut Config) -> &mut bool),
    Count(fn(&mut Config) -> &mut u8, u8, u8),
    Octets(fn(&mut Config) -> &mut u16, u16, u16),
    Time(fn(&mut Config) -> &mut Duration, Duration, Duration),
    /// Zero, which switches something off, or within the bounds.
    TimeOrZero(fn(&mut Config) -> &mut Duration, Duration, Duration),
    Buffer(fn(&mut Config) -> &mut BufferLimits),
    Control(fn(&mut Config) -> &mut CongestionControl),
}

/// Why a configuration is refused.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such key; [`Config::keys`] are those that there are.
    #[error("there is no TCP setting {0:?}")]
    UnknownKey(String),
    /// The text is no value of that key.
    #[error("{key}={text}: not {wanted}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What was given.
        text: String,
        /// What is accepted.
        wanted: String,
    },
    /// A value is outside of its bounds.
    #[error("{key}={value}: must be {bounds}")]
    OutOfBounds {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
        bounds: String,
    },
    /// Two values contradict each other.
    #[error("{0}")]
    Conflict(String),
}

debug_as_display!(ConfigError);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const HOUR: Duration = secs(3_600);
const DAY: Duration = secs(86_400);
const WEEK: Duration = secs(7 * 86_400);

const fn key(name: &'static str, value: Value, meaning: &'static str) -> Key {
    Key { name, meaning, value }
}

use Value::{Buffer, Control, Count, Octets, Switch, Time, TimeOrZero};

/// All keys, in the order of the fields.
#[rustfmt::skip]
static KEYS: &[Key] = &[
    key("timestamps", Switch(|c| &mut c.timestamps), "offer timestamps (RFC 7323)"),
    key("strict_timestamps", Switch(|c| &mut c.strict_timestamps), "drop segments that lack negotiated timestamps"),
    key("sack", Switch(|c| &mut c.sack), "offer selective acknowledgments (RFC 2018)"),
    key("rack", Switch(|c| &mut c.rack), "find losses by time (RFC 8985)"),
    key("tlp", Switch(|c| &mut c.tlp), "probe for the loss of a tail (RFC 8985)"),
    key("prr", Switch(|c| &mut c.prr), "reduce the flight in proportion during recovery (RFC 9937)"),
    key("frto", Switch(|c| &mut c.frto), "undo timeouts that were only delays (RFC 5682)"),
    key("eifel", Switch(|c| &mut c.eifel), "undo recoveries that timestamps show to be needless (RFC 3522)"),
    key("dsack", Switch(|c| &mut c.dsack), "learn from what arrived twice (RFC 2883)"),
    key("window_scale", Switch(|c| &mut c.window_scale), "offer window scaling (RFC 7323)"),
    key("initial_rto", Time(|c| &mut c.rto.initial, ms(1), secs(60)), "RTO before the first sample (RFC 6298)"),
    key("min_rto", Time(|c| &mut c.rto.min, ms(1), secs(60)), "floor of the RTO"),
    key("max_rto", Time(|c| &mut c.rto.max, secs(1), HOUR), "ceiling of the RTO and between window probes"),
    key("connect_timeout", Time(|c| &mut c.connect_timeout, secs(1), HOUR), "how long a SYN is repeated"),
    key("syn_retries", Count(|c| &mut c.syn_retries, 0, 255), "how often a SYN is repeated at most; 0: only time counts"),
    key("syn_ack_retries", Count(|c| &mut c.syn_ack_retries, 0, 30), "how often a SYN-ACK is repeated"),
    key("retransmit_limit", TimeOrZero(|c| &mut c.retransmit_limit, secs(1), DAY), "R2: give up without progress; 0: never"),
    key("data_retries", Count(|c| &mut c.data_retries, 0, 255), "R2 as a number of timeouts in a row; 0: only time counts"),
    key("user_timeout", TimeOrZero(|c| &mut c.user_timeout, ms(1), DAY), "end connections without progress, window closed or not; 0: R2"),
    key("orphan_timeout", TimeOrZero(|c| &mut c.orphan_timeout, secs(1), DAY), "R2 after the user has closed; 0: as before"),
    key("keepalive", Switch(|c| &mut c.keepalive), "probe silent connections (RFC 9293 3.8.4)"),
    key("keepalive_idle", Time(|c| &mut c.keepalive_probes.idle, ms(100), WEEK), "silence before the first probe"),
    key("keepalive_interval", Time(|c| &mut c.keepalive_probes.interval, ms(100), HOUR), "from one unanswered probe to the next"),
    key("keepalive_count", Count(|c| &mut c.keepalive_probes.count, 2, 127), "unanswered probes that end a connection"),
    key("delayed_ack", Time(|c| &mut c.delayed_ack, ms(0), ms(499)), "longest delay of an acknowledgment"),
    key("quick_acks", Count(|c| &mut c.quick_acks, 0, 255), "segments acknowledged at once at the start"),
    key("nagle", Switch(|c| &mut c.nagle), "hold small segments back while one is unacknowledged"),
    key("sws_override", Time(|c| &mut c.sws_override, ms(100), secs(1)), "longest wait for a larger window (RFC 9293)"),
    key("recv_buffer", Buffer(|c| &mut c.recv_buffer), "receive buffer, first and largest size"),
    key("recv_auto_tuning", Switch(|c| &mut c.recv_auto_tuning), "grow receive buffers with the reader's rate"),
    key("send_buffer", Buffer(|c| &mut c.send_buffer), "send buffer, first and largest size"),
    key("send_auto_tuning", Switch(|c| &mut c.send_auto_tuning), "grow send buffers with the congestion window"),
    key("initial_window", Count(|c| &mut c.initial_window, 1, 64), "initial congestion window, segments (RFC 6928)"),
    key("slow_start_after_idle", Switch(|c| &mut c.slow_start_after_idle), "begin anew after an idle RTO (RFC 5681)"),
    key("congestion", Control(|c| &mut c.congestion), "congestion control (RFC 5681, RFC 9438)"),
    key("hystart", Switch(|c| &mut c.hystart), "end slow start when the round trip grows (RFC 9406)"),
    key("time_wait", Time(|c| &mut c.time_wait, ms(1), HOUR), "length of TIME-WAIT"),
    key("fin_wait2", Time(|c| &mut c.fin_wait2, ms(1), HOUR), "longest FIN-WAIT-2 when nobody reads"),
    key("challenge_interval", Time(|c| &mut c.challenge_interval, ms(0), secs(60)), "least time between challenge ACKs; 0: no limit"),
    key("min_mss", Octets(|c| &mut c.min_mss, 48, 1_460), "smallest MSS of a peer that is honoured"),
];

impl Key {
    /// The value in `config`, as [`Key::set`] reads it.
    #[must_use]
    pub fn get(&self, config: &Config) -> String {
        let config = &mut config.clone();
        match self.value {
            Switch(of) => (if *of(config) { "on" } else { "off" }).to_owned(),
            Count(of, ..) => of(config).to_string(),
            Octets(of, ..) => size(u32::from(*of(config))),
            Time(of, ..) | TimeOrZero(of, ..) => time(*of(config)),
            Buffer(of) => {
                let BufferLimits { initial, max } = *of(config);
                if initial == max { size(max) } else { format!("{}..{}", size(initial), size(max)) }
            }
            Control(of) => of(config).to_string(),
        }
    }

    /// Which values are accepted.
    #[must_use]
    pub fn bounds(&self) -> String {
        match self.value {
            Switch(_) => "on or off".to_owned(),
            Count(_, min, max) => format!("{min} to {max}"),
            Octets(_, min, max) => format!("{min} to {max}"),
            Time(_, min, max) => format!("{} to {}", time(min), time(max)),
            TimeOrZero(_, min, max) => format!("0, or {} to {}", time(min), time(max)),
            Buffer(_) => format!("{} to {}", size(SMALLEST_BUFFER), size(LARGEST_WINDOW)),
            Control(_) => CongestionControl::ALL.map(CongestionControl::name).join(" or "),
        }
    }

    /// What kind of value it is, with an example.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.value {
            Switch(_) => "switch",
            Count(..) => "number",
            Octets(..) => "octets",
            Time(..) | TimeOrZero(..) => "time, like 200ms, 2s, 5min or 1h",
            Buffer(_) => "octets, like 64k, or 64k..6M",
            Control(_) => "name",
        }
    }

    /// Sets the value in `config` from text.
    ///
    /// # Errors
    ///
    /// The text is no such value, or out of bounds; `config` is then as before.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), ConfigError> {
        let mut changed = *config;
        let read = match self.value {
            Switch(of) => match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            }
            .map(|on| *of(&mut changed) = on),
            Count(of, ..) => text.parse().ok().map(|count| *of(&mut changed) = count),
            Octets(of, ..) => {
                read_size(text).and_then(|octets| octets.try_into().ok()).map(|octets| *of(&mut changed) = octets)
            }
            Time(of, ..) | TimeOrZero(of, ..) => read_time(text).map(|time| *of(&mut changed) = time),
            Buffer(of) => read_buffer(text).map(|limits| *of(&mut changed) = limits),
            Control(of) => text.parse().ok().map(|kind| *of(&mut changed) = kind),
        };
        if read.is_none() {
            let wanted = format!("{} ({})", self.bounds(), self.unit());
            return Err(ConfigError::BadValue { key: self.name, text: text.to_owned(), wanted });
        }
        self.check(&changed)?;
        *config = changed;
        Ok(())
    }

    /// Whether the value in `config` is within its bounds.
    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let copy = &mut config.clone();
        let within = match self.value {
            Switch(_) | Control(_) => true,
            Count(of, min, max) => (min..=max).contains(of(copy)),
            Octets(of, min, max) => (min..=max).contains(of(copy)),
            Time(of, min, max) => (min..=max).contains(of(copy)),
            TimeOrZero(of, min, max) => of(copy).is_zero() || (min..=max).contains(of(copy)),
            Buffer(of) => {
                let limits = *of(copy);
                [limits.initial, limits.max].iter().all(|octets| (SMALLEST_BUFFER..=LARGEST_WINDOW).contains(octets))
            }
        };
        if within {
            return Ok(());
        }
        Err(ConfigError::OutOfBounds { key: self.name, value: self.get(config), bounds: self.bounds() })
    }
}

impl Config {
    /// All keys, in the order of the fields.
    #[must_use]
    pub fn keys() -> &'static [Key] {
        KEYS
    }

    /// Sets the field called `key` from text: `on` or `off`; a number; a time like `200ms`, `2s`, `15min` or `1h`;
    /// octets like `64k` or `6M`; for a buffer its first and largest size, `64k..6M`, or one size for both; the name of
    /// a congestion control.
    ///
    /// # Errors
    ///
    /// No such key, no such value, or one out of bounds; nothing is changed then. Whether values go together is for
    /// [`Config::validate`] to say.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match KEYS.iter().find(|known| known.name == key) {
            Some(known) => known.set(self, value),
            None => Err(ConfigError::UnknownKey(key.to_owned())),
        }
    }

    /// Checks all bounds, and that the values go together. Called where a shard or an engine is made.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for key in KEYS {
            key.check(self)?;
        }
        let RtoLimits { initial, min, max } = self.rto;
        let ordered = [
            ("min_rto", time(min), "initial_rto", time(initial), min <= initial),
            ("initial_rto", time(initial), "max_rto", time(max), initial <= max),
        ];
        for (low, low_value, high, high_value, holds) in ordered {
            if !holds {
                let text = format!("{low}={low_value} must not be above {high}={high_value}");
                return Err(ConfigError::Conflict(text));
            }
        }
        for (name, BufferLimits { initial, max }) in
            [("recv_buffer", self.recv_buffer), ("send_buffer", self.send_buffer)]
        {
            if initial > max {
                let text = format!("{name}={}..{}: the first size is above the largest", size(initial), size(max));
                return Err(ConfigError::Conflict(text));
            }
        }
        Ok(())
    }

    /// A table of all keys for people: name, default, bounds, unit, meaning.
    #[must_use]
    pub fn help() -> String {
        let default = Self::default();
        let rows: Vec<[String; 5]> = KEYS
            .iter()
            .map(|key| {
                let unit = key.unit().split(',').next().unwrap_or_default().to_owned();
                [key.name.to_owned(), key.get(&default), key.bounds(), unit, key.meaning.to_owned()]
            })
            .collect();
        let head = ["KEY", "DEFAULT", "BOUNDS", "UNIT", "MEANING"].map(str::to_owned);
        let width: [usize; 4] = core::array::from_fn(|column| {
            rows.iter().chain([&head]).map(|row| row[column].len()).max().unwrap_or_default()
        });
        let mut table = String::new();
        for [key, default, bounds, unit, meaning] in [&head].into_iter().chain(&rows) {
            let [a, b, c, d] = width;
            let _ = writeln!(table, "{key:a$}  {default:b$}  {bounds:c$}  {unit:d$}  {meaning}");
        }
        table
    }
}

/// Units of time and how many nanoseconds they are, largest first.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A time in the largest unit in which it is a whole number; minutes only from 5 on.
fn time(time: Duration) -> String {
    let nanos = time.as_nanos();
    let fits = |(name, unit): &&(&str, u64)| nanos.is_multiple_of(*unit) && (*name != "min" || nanos >= 5 * *unit);
    match UNITS.iter().find(fits) {
        Some((name, unit)) if nanos > 0 => format!("{}{name}", nanos / unit),
        _ => "0".to_owned(),
    }
}

fn read_time(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_nanos(number.parse::<u64>().ok()?.checked_mul(*nanos)?))
}

/// Octets in the largest unit in which they are a whole number.
fn size(octets: u32) -> String {
    for (unit, shift) in [("G", 30), ("M", 20), ("k", 10)] {
        if octets > 0 && octets.trailing_zeros() >= shift {
            return format!("{}{unit}", octets >> shift);
        }
    }
    octets.to_string()
}

fn read_size(text: &str) -> Option<u32> {
    let (number, shift) = match text.chars().next_back()? {
        'k' | 'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    u64::from(number.parse::<u32>().ok()?).checked_shl(shift)?.try_into().ok()
}

fn read_buffer(text: &str) -> Option<BufferLimits> {
    let (initial, max) = text.split_once("..").unwrap_or((text, text));
    Some(BufferLimits { initial: read_size(initial)?, max: read_size(max)? })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
