//! Instants and what models want of them.

use chrono::DateTime;
use twinlane_record::Value;

/// Seconds east of UTC of `UTC`, `Z`, or an offset such as `+02:00`.
pub(crate) fn zone_seconds(zone: &str) -> Option<i32> {
    if matches!(zone, "UTC" | "Z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=18).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Microseconds since the Unix epoch of a timestamp, or of RFC 3339 text with its zone.
pub(crate) fn micros(value: &Value) -> Option<Result<i64, String>> {
    match value {
        Value::Timestamp(micros) => Some(Ok(*micros)),
        Value::Text(text) => {
            Some(DateTime::parse_from_rfc3339(text).map(|t| t.timestamp_micros()).map_err(|e| {
                format!("is not an RFC 3339 timestamp with a zone, such as 2026-01-31T12:00:00Z ({e})")
            }))
        }
        _ => None,
    }
}

const DAY: i64 = 86_400_000_000;

/// 0 to 24 with fractions.
pub(crate) fn hour_of_day(micros: i64, zone: i32) -> f64 {
    let local = micros.saturating_add(i64::from(zone) * 1_000_000);
    local.rem_euclid(DAY) as f64 / 3_600_000_000.0
}

/// 0 for Monday to 6.
pub(crate) fn day_of_week(micros: i64, zone: i32) -> f64 {
    let local = micros.saturating_add(i64::from(zone) * 1_000_000);
    // The epoch's first day was a Thursday.
    (local.div_euclid(DAY) + 3).rem_euclid(7) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_moves_the_hour_and_the_day() {
        // Monday 2024-01-01, 23:30 UTC.
        let at = 1_704_151_800_000_000;
        assert_eq!((hour_of_day(at, 0), day_of_week(at, 0)), (23.5, 0.0));
        let zone = zone_seconds("+02:00").expect("valid");
        assert_eq!((hour_of_day(at, zone), day_of_week(at, zone)), (1.5, 1.0));
        assert_eq!(zone_seconds("-05:30"), Some(-19_800));
        assert_eq!(zone_seconds("Europe/Berlin"), None);
    }

    #[test]
    fn text_without_a_zone_is_refused() {
        let text = |t: &str| micros(&Value::Text(t.into())).expect("text is tried");
        assert_eq!(text("1970-01-01T01:00:00+01:00"), Ok(0));
        assert!(text("1970-01-01T01:00:00").is_err());
    }
}
