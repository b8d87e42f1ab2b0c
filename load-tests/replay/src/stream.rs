//! Both kinds of event as the one mixed stream that the topic `shop.events` carries. The two data sets are 22 years
//! apart, so they are mixed by rank: each keeps its own order, and both begin and end together.

use std::path::Path;

use crate::{Known, Order, Purchase, Result, Split, orders::orders, purchases::purchases, wire};

/// What is asked about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Is this order fraud?
    OrderRisk,
    /// Does this customer buy again within 30 days?
    RepeatPurchase,
}

impl Task {
    /// Its name in the pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            Task::OrderRisk => "order-risk",
            Task::RepeatPurchase => "repeat-purchase",
        }
    }

    /// The output that decides, and the class in it that means a label of `true`.
    pub fn decision(self) -> (&'static str, &'static str) {
        match self {
            Task::OrderRisk => ("risk", "fraudulent"),
            Task::RepeatPurchase => ("decision", "returns"),
        }
    }
}

/// A record to produce, with what is needed to judge its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceEvent {
    /// The task that its route leads to.
    pub task: Task,
    /// `order_id` or `purchase_id`: unique, and carried to the answer.
    pub id: String,
    /// The record's key: the card or the customer.
    pub key: String,
    /// The record's value.
    pub payload: Vec<u8>,
    /// What it is about, where that is known: an order's amount, a purchase's dollars.
    pub amount: Option<f64>,
    /// When it happened in the data's own time, milliseconds since the epoch.
    pub happened_at: i64,
    /// Fraudulent, or bought again; `None` where nobody can know.
    pub label: Option<bool>,
    /// What it is for; accuracy is measured on [`Split::Test`] alone.
    pub split: Split,
}

impl From<&Known<Order>> for ReferenceEvent {
    fn from(known: &Known<Order>) -> Self {
        Self {
            task: Task::OrderRisk,
            id: known.event.order_id.clone(),
            key: known.event.card_id.clone(),
            payload: wire::order(&known.event),
            amount: known.event.amount,
            happened_at: known.event.placed_at,
            label: known.label,
            split: known.split,
        }
    }
}

impl From<&Known<Purchase>> for ReferenceEvent {
    fn from(known: &Known<Purchase>) -> Self {
        Self {
            task: Task::RepeatPurchase,
            id: known.event.purchase_id.clone(),
            key: known.event.customer_id.clone(),
            payload: wire::purchase(&known.event),
            amount: known.event.dollars,
            happened_at: known.event.bought_at,
            label: known.label,
            split: known.split,
        }
    }
}

/// All 169,651 reference events out of the wheels in `wheels`, mixed. For `limit` the latest ones of each kind are
/// taken, in the same proportion, so that a short replay holds test events too.
pub fn reference_events(wheels: &Path, limit: Option<usize>) -> Result<impl Iterator<Item = ReferenceEvent>> {
    let (mut orders, mut purchases) = (orders(wheels)?, purchases(wheels)?);
    if let Some(limit) = limit {
        let all = orders.len() + purchases.len();
        let limit = limit.min(all);
        let keep = orders.len() * limit / all;
        orders.drain(..orders.len() - keep);
        // Purchases of the last months have no label yet; end the short replay where the test ends.
        if limit < all {
            purchases.retain(|known| known.split != Split::Unlabelled);
        }
        let first = purchases.len().saturating_sub(limit - keep);
        purchases.drain(..first);
    }
    Ok(mixed(orders, purchases))
}

/// Both kinds in one stream, by rank: after any part of it, the same share of each has come.
pub fn mixed(
    orders: Vec<Known<Order>>,
    purchases: Vec<Known<Purchase>>,
) -> impl Iterator<Item = ReferenceEvent> {
    let (of_orders, of_purchases) = (orders.len(), purchases.len());
    let (mut sent_orders, mut sent_purchases) = (0, 0);
    std::iter::from_fn(move || {
        // Compare sent/of without a division: cross-multiplied.
        let order_is_due = (sent_orders + 1) * of_purchases <= (sent_purchases + 1) * of_orders;
        if sent_orders < of_orders && (order_is_due || sent_purchases == of_purchases) {
            sent_orders += 1;
            Some(ReferenceEvent::from(&orders[sent_orders - 1]))
        } else if sent_purchases < of_purchases {
            sent_purchases += 1;
            Some(ReferenceEvent::from(&purchases[sent_purchases - 1]))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::{a_purchase, an_order};

    #[test]
    fn the_pipeline_file_knows_every_task_and_its_deciding_output() {
        let file = include_str!("../../../pipelines/commerce/pipeline.yaml");
        for task in [Task::OrderRisk, Task::RepeatPurchase] {
            let (output, class) = task.decision();
            assert!(file.contains(&format!("\n  {}:", task.as_str())));
            assert!(file.lines().any(|line| line.trim().starts_with(output) && line.contains(class)));
        }
    }

    #[test]
    fn both_kinds_come_evenly_and_in_their_own_order() {
        let order = |number: i64| {
            let event = Order { placed_at: number, ..an_order() };
            Known { event, label: Some(false), split: Split::Test }
        };
        let purchase = |number: i64| {
            let event = Purchase { bought_at: number, ..a_purchase() };
            Known { event, label: None, split: Split::Unlabelled }
        };
        let events: Vec<_> = mixed((0..30).map(order).collect(), (0..20).map(purchase).collect()).collect();
        assert_eq!(events.len(), 50);
        for part in events.chunks(10) {
            let orders = part.iter().filter(|event| event.task == Task::OrderRisk).count();
            assert!((5..=7).contains(&orders), "{orders}");
        }
        for task in [Task::OrderRisk, Task::RepeatPurchase] {
            assert!(
                events.iter().filter(|event| event.task == task).is_sorted_by_key(|event| event.happened_at)
            );
        }
    }
}
