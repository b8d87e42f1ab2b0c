//! What a metric is called, what it tells, and in which buckets. Each crate that records any lists them in its
//! `metric_names.rs` with [`table!`], once: the names that it records under, the help texts and buckets that the service
//! registers, and the page `docs/metrics.md` all come from there.

pub mod buckets;

use metrics::Unit;

/// A metric as a scrape shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Name, with its unit as Prometheus wants it.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What is counted or measured in it.
    pub unit: &'static str,
    /// Its labels, but for those that a scrape adds.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

/// What can be done with a metric's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows while a process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts what lies below each of these bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As Prometheus calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Metric {
    /// Tells the recorder what the metric is for.
    pub fn describe(&self) {
        let unit = match self.unit {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            _ => Unit::Count,
        };
        let help = self.help.trim();
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, unit, help),
            Kind::Gauge => metrics::describe_gauge!(self.name, unit, help),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name, unit, help),
        }
    }
}

/// Makes a constant for each metric's name, and the table `ALL` of them. The comment of each is its help text.
///
/// ```
/// use twinlane_metric::{Kind, buckets, table};
///
/// table! {
///     /// Cups that were filled.
///     CUPS = "cups_total", Counter, cups ["kind"];
///     /// How long a cup takes.
///     CUP = "cup_seconds", Histogram(buckets::SECONDS), seconds [];
/// }
///
/// assert_eq!((CUPS, ALL[0].help.trim()), ("cups_total", "Cups that were filled."));
/// assert_eq!(ALL[1].kind, Kind::Histogram(buckets::SECONDS));
/// ```
#[macro_export]
macro_rules! table {
    ($(
        $(#[doc = $help:literal])+
        $constant:ident = $name:literal, $kind:ident $(($buckets:expr))?, $unit:ident [$($label:literal),*];
    )+) => {
        $(
            $(#[doc = $help])+
            pub const $constant: &str = $name;
        )+

        /// Every metric of this crate.
        pub const ALL: &[$crate::Metric] = &[$(
            $crate::Metric {
                name: $name,
                kind: $crate::Kind::$kind $(($buckets))?,
                unit: stringify!($unit),
                labels: &[$($label),*],
                help: concat!($($help),+),
            }
        ),+];
    };
}
