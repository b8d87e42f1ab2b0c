//! JSON objects straight into [`Value`](crate::Value), in the document's order. Depth is bounded, by us and by
//! serde_json (127). A key that stands twice is refused: readers disagree on which one counts, and a rule must
//! not see another amount than the model.

use std::{fmt, sync::Arc};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::{Reason, Rejection, Value, unique::Unique, value::MAX_DEPTH};

/// Reads an event, an object that must take all of the bytes.
pub(crate) fn read(payload: &[u8]) -> Result<Value, Rejection> {
    object(payload, MAX_DEPTH)
}

/// Reads an object that holds fields of an event, and is that much deeper.
pub(crate) fn read_scored(payload: &[u8]) -> Result<Value, Rejection> {
    object(payload, usize::MAX)
}

/// Reads an object with at most `depth` objects and lists within each other.
fn object(payload: &[u8], depth: usize) -> Result<Value, Rejection> {
    let mut from = serde_json::Deserializer::from_slice(payload);
    match (Reading { depth }).deserialize(&mut from).and_then(|value| from.end().map(|()| value)) {
        Ok(value @ Value::Record(_)) => Ok(value),
        Ok(other) => {
            Err(Rejection::new(Reason::MalformedPayload, format!("{} is not a JSON object", other.kind())))
        }
        Err(error) => Err(Rejection::new(Reason::MalformedPayload, format!("not valid JSON: {error}"))),
    }
}

/// A value with at most `depth` objects and lists within each other.
#[derive(Clone, Copy)]
struct Reading {
    depth: usize,
}

impl Reading {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        let too_deep =
            || E::custom(format_args!("more than {MAX_DEPTH} objects and lists within each other"));
        Ok(Self { depth: depth.ok_or_else(too_deep)? })
    }
}

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let item = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(item)? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let field = self.deeper()?;
        let mut fields: Vec<(Arc<str>, Value)> = Vec::new();
        let mut unique = Unique::default();
        while let Some(key) = from.next_key::<Arc<str>>()? {
            if !unique.is_new(&key, &fields) {
                let key: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format_args!("the key `{key}` stands twice in an object")));
            }
            fields.push((key, from.next_value_seed(field)?));
        }
        Ok(Value::Record(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    fn refused(payload: &[u8]) -> String {
        let rejection = read(payload).expect_err("must be refused");
        assert_eq!(rejection.reason, Reason::MalformedPayload);
        rejection.detail
    }

    #[test]
    fn fields_keep_the_documents_order_and_numbers_their_kind() {
        let read = read(br#" {"z": 9007199254740993, "a": 1.0, "m": -0, "f": 5.4084738548327034e299, "big": 18446744073709551615, "l": [null, true]} "#);
        let fields = vec![
            ("z".into(), Value::Int(9_007_199_254_740_993)),
            ("a".into(), Value::Float(1.0)),
            ("m".into(), Value::Float(-0.0)),
            ("f".into(), Value::Float(5.408_473_854_832_703_4e299)),
            ("big".into(), Value::Float(18_446_744_073_709_551_615.0)),
            ("l".into(), Value::List(vec![Value::Null, Value::Bool(true)])),
        ];
        assert_eq!(read, Ok(Value::Record(fields)));
    }

    #[test]
    fn what_is_not_one_object_of_valid_json_is_refused() {
        assert_eq!(refused(b"[1]"), "a list is not a JSON object");
        for bad in [
            &b"{"[..],
            b"{} {}",
            b"{\"a\": NaN}",
            b"{\"a\": 1e999}",
            b"{\"a\": \"\xff\"}",
            b"{\"\\ud800\": 1}",
            b"\0",
        ] {
            refused(bad);
        }
    }

    #[test]
    fn depth_is_bounded_and_width_is_not() {
        let nested = |depth: usize| [br#"{"a":"#.repeat(depth), b"1".to_vec(), b"}".repeat(depth)].concat();
        assert!(read(&nested(MAX_DEPTH)).is_ok());
        for depth in [MAX_DEPTH + 1, 1_000_000] {
            assert!(refused(&nested(depth)).contains("more than 100 objects and lists"));
        }
        let wide: Vec<String> = (0..100_000).map(|i| format!("\"k{i}\":{i}")).collect();
        let wide = format!("{{{}}}", wide.join(","));
        assert_eq!(read(wide.as_bytes()).expect("valid").get("k99999"), Some(&Value::Int(99_999)));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_in_small_and_large_objects() {
        assert!(refused(br#"{"o": {"amount": 1, "amount": 2}}"#).contains("`amount` stands twice"));
        let many: Vec<String> = (0..200).map(|i| format!("\"k{}\":0", i % 199)).collect();
        assert!(refused(format!("{{{}}}", many.join(",")).as_bytes()).contains("`k0` stands twice"));
        let long = "x".repeat(100_000);
        assert!(refused(format!(r#"{{"{long}":1,"{long}":2}}"#).as_bytes()).len() < 200);
    }

    fn document() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            (-1e300..1e300).prop_map(|f: f64| Json::from(f)),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|m| Json::Object(m.into_iter().collect())),
            ]
        })
    }

    fn same(json: &Json, value: &Value) -> bool {
        match (json, value) {
            (Json::Null, Value::Null) => true,
            (Json::Bool(a), Value::Bool(b)) => a == b,
            (Json::Number(a), Value::Int(b)) => a.as_i64() == Some(*b),
            (Json::Number(a), Value::Float(b)) => a.is_f64() && a.as_f64() == Some(*b),
            (Json::String(a), Value::Text(b)) => **a == **b,
            (Json::Array(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Json::Object(a), Value::Record(b)) => {
                a.len() == b.len() && b.iter().all(|(name, b)| a.get(&**name).is_some_and(|a| same(a, b)))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn any_object_is_read_as_serde_json_reads_it(json in document()) {
            let json = serde_json::json!({ "f": json });
            let read = read(json.to_string().as_bytes()).expect("valid");
            prop_assert!(same(&json, &read), "{json} was read as {read:?}");
        }

        #[test]
        fn changed_bytes_never_panic(json in document(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut payload = serde_json::json!({ "f": json }).to_string().into_bytes();
            let at = at.index(payload.len());
            payload[at] = with;
            let _ = read(&payload);
        }
    }
}
