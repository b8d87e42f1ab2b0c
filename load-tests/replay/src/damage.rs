//! Events spoiled on purpose. Each kind of damage has one right answer, and the events around it must not feel it.

use crate::{Known, Order, Split, stream::ReferenceEvent, wire};

/// A way to spoil an order event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Damage {
    /// The Avro datum ends in the middle.
    Truncated,
    /// Bytes follow the Avro datum.
    TrailingBytes,
    /// The first byte is not the wire format's zero.
    WrongMagic,
    /// An id that no registry gave out.
    UnknownSchemaId,
    /// `amount`, which the model needs, is null.
    AmountMissing,
    /// `amount` is NaN: it decodes, and no model may see it.
    AmountNotANumber,
    /// `amount` is infinite.
    AmountInfinite,
    /// A value without bytes.
    Empty,
    /// No value at all; the pipeline `commerce` skips tombstones.
    Tombstone,
    /// A sound event that says it is a test; a route skips it.
    TestTraffic,
}

/// The answer that a damaged event must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// A dead letter with this reason (the fixed string of the contract).
    DeadLetter(&'static str),
    /// Counted, not answered.
    Skipped,
}

impl Damage {
    /// Every kind.
    pub const ALL: [Damage; 10] = [
        Damage::Truncated,
        Damage::TrailingBytes,
        Damage::WrongMagic,
        Damage::UnknownSchemaId,
        Damage::AmountMissing,
        Damage::AmountNotANumber,
        Damage::AmountInfinite,
        Damage::Empty,
        Damage::Tombstone,
        Damage::TestTraffic,
    ];

    /// What must come of it in the pipeline `commerce`.
    pub fn expected(self) -> Expected {
        match self {
            Damage::Truncated | Damage::TrailingBytes | Damage::WrongMagic => {
                Expected::DeadLetter("malformed_payload")
            }
            Damage::UnknownSchemaId => Expected::DeadLetter("unknown_schema"),
            Damage::AmountMissing => Expected::DeadLetter("missing_field"),
            Damage::AmountNotANumber | Damage::AmountInfinite => Expected::DeadLetter("not_finite"),
            Damage::Empty => Expected::DeadLetter("empty_payload"),
            Damage::Tombstone | Damage::TestTraffic => Expected::Skipped,
        }
    }

    /// `order`, spoiled: the record to produce. Its value is `None` for a tombstone. `number` makes the id of the
    /// damaged copy unlike the original's.
    pub fn spoil(self, order: &Known<Order>, number: usize) -> Spoiled {
        let mut event = order.event.clone();
        event.order_id = format!("damaged-{number}");
        match self {
            Damage::AmountMissing => event.amount = None,
            Damage::AmountNotANumber => event.amount = Some(f64::NAN),
            Damage::AmountInfinite => event.amount = Some(f64::INFINITY),
            Damage::TestTraffic => event.test = true,
            _ => {}
        }
        let known = Known { event, label: None, split: Split::Unlabelled };
        let ReferenceEvent { key, mut payload, happened_at, .. } = ReferenceEvent::from(&known);
        match self {
            Damage::Truncated => payload.truncate(wire::HEADER + (payload.len() - wire::HEADER) / 2),
            Damage::TrailingBytes => payload.extend(b"more"),
            Damage::WrongMagic => payload[0] = b'{',
            Damage::UnknownSchemaId => payload[1..wire::HEADER].copy_from_slice(&9_999u32.to_be_bytes()),
            Damage::Empty => payload.clear(),
            _ => {}
        }
        let payload = (self != Damage::Tombstone).then_some(payload);
        Spoiled { damage: self, id: known.event.order_id, key, payload, happened_at }
    }
}

/// A damaged record, ready to produce.
#[derive(Clone, Debug, PartialEq)]
pub struct Spoiled {
    /// What is wrong with it.
    pub damage: Damage,
    /// The `order_id` that it would have, unlike any sound event's.
    pub id: String,
    /// The record's key.
    pub key: String,
    /// The record's value; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// When the order it is made from happened, milliseconds since the epoch.
    pub happened_at: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::an_order;

    #[test]
    fn every_kind_of_damage_changes_the_bytes_in_its_own_way() {
        let known = Known { event: an_order(), label: Some(true), split: Split::Test };
        let spoiled: Vec<_> = Damage::ALL.iter().map(|damage| damage.spoil(&known, 7)).collect();
        let sound = wire::order(&Order { order_id: "damaged-7".into(), ..an_order() });
        for (index, one) in spoiled.iter().enumerate() {
            assert_ne!(one.payload.as_ref(), Some(&sound), "{:?}", one.damage);
            assert!(spoiled[..index].iter().all(|other| other.payload != one.payload), "{:?}", one.damage);
            assert_eq!(one.key, "card-1");
        }
    }

    #[test]
    fn a_truncated_order_cannot_be_read() {
        let known = Known { event: an_order(), label: Some(true), split: Split::Test };
        let schema = apache_avro::Schema::parse_str(include_str!("../../../schemas/order.v1.avsc")).unwrap();
        let payload = Damage::Truncated.spoil(&known, 0).payload.unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
        assert!(reader.read_value(&mut &payload[wire::HEADER..]).is_err());
    }
}
