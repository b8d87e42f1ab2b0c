//! What is asked of a schema's text before apache-avro parses it. The parser builds every default to see whether it is
//! valid. A record's default leaves out fields that have defaults themselves, so a schema of two kilobytes can stand for
//! a million values, and one of some more for a value that is deeper than the stack.

use std::{cmp::max, collections::HashMap};

use serde_json::Value as Json;

use crate::value::MAX_DEPTH;

/// Values that one default may stand for, counted from above. No schema that is written by hand comes near; the parser
/// takes a few hundredths of a second.
const MAX_VALUES: usize = 50_000;

/// Refuses a schema whose defaults the parser should not build; text that is not JSON is left to it.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let Ok(schema) = serde_json::from_str(text) else { return Ok(()) };
    let mut sizes = Sizes { records: HashMap::new(), largest: Size::ONE };
    sizes.of(&schema);
    let Size { values, depth } = sizes.largest;
    match (values > MAX_VALUES, depth > MAX_DEPTH) {
        (true, _) => Err(format!("one of its defaults stands for more than {MAX_VALUES} values")),
        (_, true) => Err(format!("one of its defaults is more than {MAX_DEPTH} records deep")),
        _ => Ok(()),
    }
}

/// What the default of a type may be: the values in it, and how deep they are within each other.
#[derive(Clone, Copy)]
struct Size {
    values: usize,
    depth: usize,
}

impl Size {
    const ONE: Self = Self { values: 1, depth: 1 };

    fn or(self, other: Self) -> Self {
        Self { values: max(self.values, other.values), depth: max(self.depth, other.depth) }
    }
}

struct Sizes {
    /// By the last part of their name; of several, the largest. A schema defines a record before it uses it.
    records: HashMap<String, Size>,
    /// Of all defaults.
    largest: Size,
}

impl Sizes {
    fn of(&mut self, schema: &Json) -> Size {
        match schema {
            Json::String(name) => self.records.get(last_part(name)).copied().unwrap_or(Size::ONE),
            // A default is tried with each branch.
            Json::Array(branches) => {
                branches.iter().map(|branch| self.of(branch)).fold(Size::ONE, |all, branch| Size {
                    values: all.values.saturating_add(branch.values),
                    depth: max(all.depth, branch.depth),
                })
            }
            Json::Object(complex) => {
                let parts = ["type", "items", "values"].into_iter().filter_map(|part| complex.get(part));
                let size = parts.map(|part| self.of(part)).fold(Size::ONE, Size::or);
                match complex.get("fields") {
                    Some(Json::Array(fields)) => self.record(complex.get("name"), fields),
                    _ => size,
                }
            }
            _ => Size::ONE,
        }
    }

    fn record(&mut self, name: Option<&Json>, fields: &[Json]) -> Size {
        let mut record = Size::ONE;
        for field in fields {
            let of_type = field.get("type").map_or(Size::ONE, |schema| self.of(schema));
            let Some(default) = field.get("default") else { continue };
            let written = written(default);
            let of_field = Size {
                values: written.values.saturating_mul(of_type.values),
                depth: written.depth.saturating_add(of_type.depth),
            };
            self.largest = self.largest.or(of_field);
            record.values = record.values.saturating_add(of_field.values);
            record.depth = max(record.depth, of_field.depth);
        }
        if let Some(Json::String(name)) = name {
            let known = self.records.entry(last_part(name).to_owned()).or_insert(record);
            *known = known.or(record);
        }
        record
    }
}

/// The size of a default as it is written.
fn written(default: &Json) -> Size {
    let add = |all: Size, part: Size| Size {
        values: all.values.saturating_add(part.values),
        depth: max(all.depth, part.depth + 1),
    };
    match default {
        Json::Array(items) => items.iter().map(written).fold(Size::ONE, add),
        Json::Object(fields) => fields.values().map(written).fold(Size::ONE, add),
        _ => Size::ONE,
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of which each has `width` fields of the one before, with defaults.
    fn tower(height: usize, width: usize) -> String {
        let mut fields = vec![r#"{"name":"r0","type":{"type":"record","name":"L0","fields":[]}}"#.to_owned()];
        for level in 1..=height {
            let of = level - 1;
            let inner: Vec<_> =
                (0..width).map(|f| format!(r#"{{"name":"f{f}","type":"n.L{of}","default":{{}}}}"#)).collect();
            let inner = inner.join(",");
            fields.push(format!(
                r#"{{"name":"r{level}","type":{{"type":"record","name":"L{level}","fields":[{inner}]}}}}"#
            ));
        }
        format!(r#"{{"type":"record","name":"R","namespace":"n","fields":[{}]}}"#, fields.join(","))
    }

    #[test]
    fn a_default_that_stands_for_too_much_is_refused_before_it_is_built() {
        assert_eq!(check(&tower(8, 2)), Ok(()));
        assert!(check(&tower(30, 2)).expect_err("2^30 values").contains("50000 values"));
        assert!(check(&tower(5000, 1)).expect_err("too deep").contains("100 records deep"));
    }

    #[test]
    fn what_has_few_defaults_may_be_as_wide_as_it_likes() {
        let fields: Vec<_> = (0..5000)
            .map(|f| format!(r#"{{"name":"f{f}","type":["null","string"],"default":null}}"#))
            .collect();
        assert_eq!(
            check(&format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(","))),
            Ok(())
        );
        assert_eq!(check("{"), Ok(()), "the parser says what is wrong with it");
    }
}
