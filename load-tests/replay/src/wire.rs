//! Events as bytes: a zero, the schema's id as four bytes, the Avro datum. That is the wire format of Confluent's
//! registry, so the events could as well come from any producer that uses one.

use std::sync::LazyLock;

use apache_avro::{Schema, error::Error, writer::datum::GenericDatumWriter};
use serde::Serialize;

use crate::{Order, Purchase};

/// Id of `schemas/order.v1.avsc` in the registry.
pub const ORDER_SCHEMA: u32 = 1;
/// Id of `schemas/purchase.v1.avsc` in the registry.
pub const PURCHASE_SCHEMA: u32 = 2;
/// Bytes before the datum.
pub const HEADER: usize = 5;

static ORDER: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse_str(include_str!("../../../schemas/order.v1.avsc")).expect("a test parses this schema")
});
static PURCHASE: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse_str(include_str!("../../../schemas/purchase.v1.avsc")).expect("a test parses this schema")
});

/// An order as a producer sends it.
pub fn order(order: &Order) -> Vec<u8> {
    framed(ORDER_SCHEMA, &ORDER, order)
}

/// A purchase as a producer sends it.
pub fn purchase(purchase: &Purchase) -> Vec<u8> {
    framed(PURCHASE_SCHEMA, &PURCHASE, purchase)
}

fn framed(id: u32, schema: &Schema, event: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    let written =
        GenericDatumWriter::builder(schema).build().and_then(|writer| writer.write_ser(&mut bytes, event));
    let _: usize = infallible(written);
    bytes
}

/// The structs and their schemas are fixed at compile time and a test writes both.
fn infallible<T>(written: Result<T, Error>) -> T {
    written.expect("an event always fits its own schema")
}

#[cfg(test)]
pub(crate) mod tests {
    use apache_avro::{reader::datum::GenericDatumReader, types::Value};

    use super::*;
    use crate::{orders::PastOrder, purchases::PastPurchase};

    pub(crate) fn an_order() -> Order {
        Order {
            order_id: "order-1".into(),
            test: false,
            card_id: "card-1".into(),
            store_id: "store-1".into(),
            placed_at: 1_546_300_800_000,
            amount: Some(12_000.0),
            currency: "EUR".into(),
            country: None,
            provider: "Maestro".into(),
            customer_present: true,
            lat: 48.0,
            lng: 2.5,
            card_orders: 1,
            card_labelled: 0,
            card_frauds: 0,
            store_orders: 0,
            store_labelled: 0,
            store_frauds: 0,
            card_recent: vec![PastOrder {
                amount: 7.0,
                age_s: 60.0,
                fraud: None,
                other_legitimate: 1,
                other_frauds: 0,
            }],
            store_recent: vec![],
        }
    }

    pub(crate) fn a_purchase() -> Purchase {
        Purchase {
            purchase_id: "purchase-1".into(),
            test: false,
            customer_id: "customer-00001".into(),
            bought_at: 852_076_800_000,
            units: 2,
            dollars: Some(29.5),
            frequency: 1,
            recency_days: Some(3),
            tenure_days: 3,
            spend: 11.77,
            recent: vec![PastPurchase { age_days: 3, units: 1, dollars: 11.77 }],
        }
    }

    fn read(schema: &Schema, bytes: &[u8]) -> Vec<(String, Value)> {
        let mut rest = &bytes[HEADER..];
        let value = GenericDatumReader::builder(schema).build().unwrap().read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        match value {
            Value::Record(fields) => fields,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_order_reads_back_under_its_schema() {
        let bytes = order(&an_order());
        assert_eq!(bytes[..HEADER], [0, 0, 0, 0, 1]);
        let fields = read(&ORDER, &bytes);
        assert_eq!(fields[4], ("placed_at".into(), Value::TimestampMillis(1_546_300_800_000)));
        assert_eq!(fields[5], ("amount".into(), Value::Union(1, Box::new(Value::Double(12_000.0)))));
        let (name, Value::Array(past)) = &fields[18] else { panic!("{fields:?}") };
        assert_eq!((name.as_str(), past.len()), ("card_recent", 1));
    }

    #[test]
    fn a_purchase_reads_back_under_its_schema() {
        let bytes = purchase(&a_purchase());
        assert_eq!(bytes[..HEADER], [0, 0, 0, 0, 2]);
        let fields = read(&PURCHASE, &bytes);
        assert_eq!(fields[7], ("recency_days".into(), Value::Union(1, Box::new(Value::Int(3)))));
    }
}
