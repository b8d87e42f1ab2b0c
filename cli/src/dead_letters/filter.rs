//! Which dead letters somebody wants to see or send: a value, so that it can be tried without a cluster.

use chrono::{DateTime, Utc};
use twinlane_record::Reason;

use super::letter::Letter;

/// What is asked for; an empty list asks for all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) reasons: Vec<Reason>,
    pub(crate) routes: Vec<String>,
    pub(crate) tasks: Vec<String>,
    /// Died at this time or later, milliseconds since the Unix epoch.
    pub(crate) since_ms: Option<i64>,
    /// Died before this time.
    pub(crate) until_ms: Option<i64>,
    /// How the digest of its model begins.
    pub(crate) model_digest: Option<String>,
}

impl Filter {
    pub(crate) fn takes(&self, letter: &Letter<'_>) -> bool {
        let dead = &letter.dead;
        let digest = dead.model_digest.as_deref();
        (self.reasons.is_empty() || self.reasons.contains(&dead.reason))
            && among(&self.routes, letter.route.as_deref())
            && among(&self.tasks, letter.task.as_deref())
            && self.since_ms.is_none_or(|since| dead.time_ms >= since)
            && self.until_ms.is_none_or(|until| dead.time_ms < until)
            && self.model_digest.as_deref().is_none_or(|begins| digest.is_some_and(|d| d.starts_with(begins)))
    }
}

fn among(wanted: &[String], found: Option<&str>) -> bool {
    wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|name| name == found))
}

/// A time as it is typed, in milliseconds since the Unix epoch.
pub(crate) fn moment(text: &str) -> Result<i64, String> {
    moment_at(text, Utc::now().timestamp_millis())
}

fn moment_at(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    let wrong =
        || "neither a time such as 2026-01-31T12:00:00Z nor an age such as 90s, 15m, 2h or 3d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let unit_ms: i64 = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(now_ms.saturating_sub(unit_ms.saturating_mul(i64::from(count))))
}

#[cfg(test)]
mod tests {
    use twinlane_record::{Coordinates, DeadLetter, Envelope, Headers};

    use super::*;

    fn takes(filter: &Filter) -> bool {
        let dead = DeadLetter {
            route: None,
            source: Coordinates { topic: "t".into(), partition: 0, offset: 1 },
            stage: "precision".into(),
            reason: Reason::MissingField,
            detail: String::new(),
            model_digest: Some("5ce21b1b".into()),
            time_ms: 1_000,
            deaths: 1,
        };
        let at = Coordinates { topic: "dead".into(), partition: 0, offset: 0 };
        let record = Envelope { at, timestamp_ms: None, key: None, value: None, headers: Headers::default() };
        let (route, task) = (Some("orders".into()), Some("order-risk".into()));
        filter.takes(&Letter { record: &record, dead, route, task, is_truncated: false })
    }

    #[test]
    fn nothing_asked_for_is_all() {
        assert!(takes(&Filter::default()));
    }

    #[test]
    fn each_part_of_a_filter_must_hold() {
        let all = Filter {
            reasons: vec![Reason::NoRoute, Reason::MissingField],
            routes: vec!["orders".into()],
            tasks: vec!["order-risk".into()],
            since_ms: Some(1_000),
            until_ms: Some(1_001),
            model_digest: Some("5ce2".into()),
        };
        assert!(takes(&all));
        for other in [
            Filter { reasons: vec![Reason::NoRoute], ..all.clone() },
            Filter { routes: vec!["clicks".into()], ..all.clone() },
            Filter { tasks: vec!["order".into()], ..all.clone() },
            Filter { since_ms: Some(1_001), ..all.clone() },
            Filter { until_ms: Some(1_000), ..all.clone() },
            Filter { model_digest: Some("ce2".into()), ..all.clone() },
        ] {
            assert!(!takes(&other), "{other:?}");
        }
    }

    #[test]
    fn a_time_is_a_date_with_its_zone_or_an_age() {
        let now = 1_764_000_000_000;
        assert_eq!(moment_at("2026-01-31T12:00:00+01:00", now), Ok(1_769_857_200_000));
        assert_eq!(moment_at("90s", now), Ok(now - 90_000));
        assert_eq!(moment_at("3d", now), Ok(now - 3 * 86_400_000));
        for wrong in ["", "h", "2w", "-1h", "yesterday", "2026-01-31", "2ü"] {
            assert!(moment_at(wrong, now).is_err_and(|why| why.contains("15m")), "{wrong}");
        }
    }
}
