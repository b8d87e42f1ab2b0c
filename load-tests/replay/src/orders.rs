//! Card transactions as order events. The rule of this file: an event holds only what was known at its own second.
//! Earlier orders are known at once, their outcome only [`LABEL_DELAY_MS`] later, as a charge-back would be.

use std::{collections::HashMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Known, Result, Split, packages::FRAUD};

/// How long after an order its outcome is known: seven days.
pub const LABEL_DELAY_MS: i64 = 7 * 24 * 3600 * 1000;
/// How many earlier orders an event lists at most, per card and per store.
pub const KEPT: usize = 16;
/// Share of the orders, the latest ones, that models are measured on.
pub const TEST_SHARE: f64 = 0.25;
/// Share of the training orders, the latest ones, that thresholds are chosen on.
pub const VALIDATION_SHARE: f64 = 0.15;

/// An order event; the fields of `schemas/order.v1.avsc`, in its order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename = "order")]
#[expect(missing_docs, reason = "the schema documents each field")]
pub struct Order {
    pub order_id: String,
    pub test: bool,
    pub card_id: String,
    pub store_id: String,
    pub placed_at: i64,
    pub amount: Option<f64>,
    pub currency: String,
    pub country: Option<String>,
    pub provider: String,
    pub customer_present: bool,
    pub lat: f64,
    pub lng: f64,
    pub card_orders: i32,
    pub card_labelled: i32,
    pub card_frauds: i32,
    pub store_orders: i32,
    pub store_labelled: i32,
    pub store_frauds: i32,
    pub card_recent: Vec<PastOrder>,
    pub store_recent: Vec<PastOrder>,
}

/// An earlier order of the same card or store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename = "past_order")]
#[expect(missing_docs, reason = "the schema documents each field")]
pub struct PastOrder {
    pub amount: f64,
    pub age_s: f64,
    pub fraud: Option<i32>,
    pub other_legitimate: i32,
    pub other_frauds: i32,
}

/// A row of the file, by its headings.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    id: u32,
    card_id: u32,
    store_id: u32,
    datetime: String,
    amount: f64,
    currency: String,
    customer_present: String,
    fraud: String,
    provider: String,
    lat: f64,
    lng: f64,
    country: Option<String>,
    #[serde(skip)]
    at: i64,
}

impl Row {
    fn fraud(&self) -> bool {
        self.fraud == "True"
    }
}

/// All orders out of the wheel in `wheels`, in time order.
pub fn orders(wheels: &Path) -> Result<Vec<Known<Order>>> {
    let text = FRAUD.read(wheels)?;
    let mut rows: Vec<Row> = Vec::new();
    for (index, row) in csv::Reader::from_reader(text.as_bytes()).deserialize().enumerate() {
        let mut row: Row = row.map_err(|error| FRAUD.bad_row(index + 1, error))?;
        let at = chrono::NaiveDateTime::parse_from_str(&row.datetime, "%Y-%m-%d %H:%M:%S");
        row.at = at.map_err(|error| FRAUD.bad_row(index + 1, error))?.and_utc().timestamp_millis();
        rows.push(row);
    }
    rows.sort_by_key(|row| (row.at, row.id));
    Ok(with_histories(&rows))
}

/// What is known about one card or one store, as time goes by.
#[derive(Default)]
struct Party {
    /// Indices of its orders so far.
    orders: Vec<usize>,
    legitimate: i32,
    frauds: i32,
}

fn with_histories(rows: &[Row]) -> Vec<Known<Order>> {
    let mut cards: HashMap<u32, Party> = HashMap::new();
    let mut stores: HashMap<u32, Party> = HashMap::new();
    let split = splitter(rows);
    let mut labelled_up_to = 0;
    let mut events = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        // Outcomes arrive in the order of their orders: every row has the same delay.
        while rows[labelled_up_to].at + LABEL_DELAY_MS <= row.at {
            let known = &rows[labelled_up_to];
            for party in [cards.entry(known.card_id).or_default(), stores.entry(known.store_id).or_default()]
            {
                if known.fraud() { party.frauds += 1 } else { party.legitimate += 1 }
            }
            labelled_up_to += 1;
        }
        let nothing = Party::default();
        let card = cards.get(&row.card_id).unwrap_or(&nothing);
        let store = stores.get(&row.store_id).unwrap_or(&nothing);
        let past = |party: &Party, other: &dyn Fn(&Row) -> (i32, i32)| -> Vec<PastOrder> {
            let first = party.orders.len().saturating_sub(KEPT);
            party.orders[first..]
                .iter()
                .map(|&earlier| {
                    let fraud = (earlier < labelled_up_to).then(|| rows[earlier].fraud());
                    let (legitimate, frauds) = other(&rows[earlier]);
                    PastOrder {
                        amount: rows[earlier].amount,
                        age_s: (row.at - rows[earlier].at) as f64 / 1000.0,
                        fraud: fraud.map(i32::from),
                        other_legitimate: legitimate - i32::from(fraud == Some(false)),
                        other_frauds: frauds - i32::from(fraud == Some(true)),
                    }
                })
                .collect()
        };
        let known_of = |party: Option<&Party>| party.map_or((0, 0), |party| (party.legitimate, party.frauds));
        let event = Order {
            order_id: format!("order-{}", row.id),
            test: false,
            card_id: format!("card-{}", row.card_id),
            store_id: format!("store-{}", row.store_id),
            placed_at: row.at,
            amount: Some(row.amount),
            currency: row.currency.clone(),
            country: row.country.clone(),
            provider: row.provider.clone(),
            customer_present: row.customer_present == "True",
            lat: row.lat,
            lng: row.lng,
            card_orders: card.orders.len() as i32,
            card_labelled: card.legitimate + card.frauds,
            card_frauds: card.frauds,
            store_orders: store.orders.len() as i32,
            store_labelled: store.legitimate + store.frauds,
            store_frauds: store.frauds,
            card_recent: past(card, &|earlier| known_of(stores.get(&earlier.store_id))),
            store_recent: past(store, &|earlier| known_of(cards.get(&earlier.card_id))),
        };
        events.push(Known { event, label: Some(row.fraud()), split: split(index) });
        cards.entry(row.card_id).or_default().orders.push(index);
        stores.entry(row.store_id).or_default().orders.push(index);
    }
    events
}

/// Train, validation, gap and test by time.
fn splitter(rows: &[Row]) -> impl Fn(usize) -> Split + use<'_> {
    let test = (rows.len() as f64 * (1.0 - TEST_SHARE)) as usize;
    let learned =
        rows.get(test).map_or(test, |first| rows.partition_point(|row| row.at + LABEL_DELAY_MS <= first.at));
    let validation = (learned as f64 * (1.0 - VALIDATION_SHARE)).ceil() as usize;
    move |index| match index {
        _ if index >= test => Split::Test,
        _ if index >= learned => Split::Gap,
        _ if index >= validation => Split::Validation,
        _ => Split::Train,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600 * 1000;

    fn row(id: u32, day: i64, card_id: u32, store_id: u32, fraud: bool) -> Row {
        Row {
            id,
            card_id,
            store_id,
            datetime: String::new(),
            amount: f64::from(id),
            currency: "EUR".into(),
            customer_present: "True".into(),
            fraud: if fraud { "True" } else { "False" }.into(),
            provider: "Maestro".into(),
            lat: 0.0,
            lng: 0.0,
            country: None,
            at: day * DAY,
        }
    }

    #[test]
    fn an_order_knows_earlier_orders_at_once_and_their_outcome_only_after_the_delay() {
        let rows = [row(0, 0, 1, 10, true), row(1, 6, 1, 11, false), row(2, 7, 1, 12, false)];
        let events = with_histories(&rows);
        assert_eq!(events[0].event.card_recent, []);
        assert_eq!(events[1].event.card_recent.len(), 1);
        assert_eq!(events[1].event.card_recent[0].fraud, None);
        assert_eq!((events[1].event.card_orders, events[1].event.card_labelled), (1, 0));
        let fraud: Vec<_> = events[2].event.card_recent.iter().map(|past| past.fraud).collect();
        assert_eq!(fraud, [Some(1), None], "most recent last");
        assert_eq!((events[2].event.card_labelled, events[2].event.card_frauds), (1, 1));
    }

    #[test]
    fn the_other_party_of_an_earlier_order_does_not_count_that_order_itself() {
        let rows = [row(0, 0, 1, 10, true), row(1, 1, 2, 10, false), row(2, 20, 1, 11, false)];
        let past = &with_histories(&rows)[2].event.card_recent[0];
        assert_eq!((past.other_legitimate, past.other_frauds), (1, 0));
    }

    #[test]
    fn what_happens_later_changes_nothing_about_an_event() {
        let mut rows: Vec<Row> =
            (0..40).map(|id| row(id, i64::from(id), id % 3, id % 5, id % 4 == 0)).collect();
        let before = with_histories(&rows);
        for later in &mut rows[20..] {
            later.fraud = "True".into();
        }
        let after = with_histories(&rows);
        for index in 0..=26 {
            assert_eq!(before[index].event, after[index].event, "order {index}");
        }
    }

    #[test]
    fn every_label_that_models_learn_from_was_known_before_the_test_begins() {
        let rows: Vec<Row> = (0..200).map(|id| row(id, i64::from(id), id % 3, id % 5, false)).collect();
        let events = with_histories(&rows);
        let begins = events.iter().find(|known| known.is_test()).unwrap().event.placed_at;
        for known in events.iter().filter(|known| matches!(known.split, Split::Train | Split::Validation)) {
            assert!(known.event.placed_at + LABEL_DELAY_MS <= begins);
        }
        assert_eq!(events.iter().filter(|known| known.is_test()).count(), 50);
        assert_eq!(events.iter().filter(|known| known.split == Split::Gap).count(), 6);
    }
}
