//! Medians and ranges.

/// What repeated measurements come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The one in the middle, or the mean of both.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub greatest: f64,
}

/// Median, least and greatest; `None` of nothing.
#[must_use]
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let (least, greatest) = (*values.first()?, *values.last()?);
    let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
    Some(Spread { median, least, greatest })
}

/// A number with three or four digits that say something.
#[must_use]
pub fn figure(x: f64) -> String {
    match x {
        x if x >= 1000.0 => format!("{x:.0}"),
        x if x >= 100.0 => format!("{x:.1}"),
        x if x >= 0.1 => format!("{x:.2}"),
        x => format!("{x:.3}"),
    }
}

/// How long something takes, for people.
#[must_use]
pub fn length(seconds: f64) -> String {
    match seconds {
        s if s >= 90.0 => format!("{:.0} min", s / 60.0),
        s => format!("{s:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_median_least_greatest() {
        assert_eq!(spread([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, greatest: 3.0 }));
        assert_eq!(spread([4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, least: 1.0, greatest: 4.0 }));
        assert_eq!(spread([]), None);
    }

    #[test]
    fn figures_have_digits_that_say_something() {
        assert_eq!([12345.6, 123.45, 1.234, 0.01234].map(figure), ["12346", "123.5", "1.23", "0.012"]);
        assert_eq!([10.0, 600.0].map(length), ["10 s", "10 min"]);
    }
}
