//! Types as tables for people, from the JSON Schema that is derived from them: a section for each type, with its keys,
//! what they hold, what they are when absent, and their doc comments.

use std::fmt::Write as _;

use serde_json::Value;

/// A type and the places where it stands.
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) schema: &'a Value,
    pub(crate) places: Vec<String>,
}

/// A key of a type.
pub(crate) struct Key<'a> {
    pub(crate) name: &'a str,
    pub(crate) schema: &'a Value,
    pub(crate) required: bool,
}

/// The root and every type below it, each once and before those that it leads to. Plain choices are told where they are
/// used and have no section.
pub(crate) fn sections(root: &Value) -> Vec<Section<'_>> {
    let name = root["title"].as_str().unwrap_or_default();
    let mut found = vec![Section { name, schema: root, places: Vec::new() }];
    visit(root, root, "", &mut found);
    found
}

fn visit<'a>(root: &'a Value, schema: &'a Value, place: &str, found: &mut Vec<Section<'a>>) {
    let keys = keys(schema).into_iter().map(|key| {
        let dot = if place.is_empty() { "" } else { "." };
        (key.schema, format!("{place}{dot}{}", key.name))
    });
    let parts = alternatives(schema).iter().map(|part| (part, place.to_owned()));
    for (schema, place) in keys.chain(parts) {
        let (name, place) = referred(schema, place);
        let Some(schema) = root["$defs"].get(name) else { continue };
        if is_plain_choice(schema) {
            continue;
        }
        match found.iter_mut().find(|section| section.name == name) {
            Some(known) if known.places.contains(&place) => continue,
            Some(known) => known.places.push(place.clone()),
            None => found.push(Section { name, schema, places: vec![place.clone()] }),
        }
        // A type that holds itself would have no end; none of a file that people write does.
        visit(root, schema, &place, found);
    }
}

/// The type that a key holds, be it in a list or by name, and where.
fn referred(schema: &Value, place: String) -> (&str, String) {
    if let Some(reference) = schema["$ref"].as_str() {
        return (reference.rsplit('/').next().unwrap_or_default(), place);
    }
    if let Some(items) = schema.get("items") {
        return referred(items, format!("{place}[]"));
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        return referred(values, format!("{place}.NAME"));
    }
    // Of an optional one and of several: those that are no type have nothing to refer to.
    let typed = alternatives(schema).iter().find(|part| part["type"] != "null");
    typed.map_or(("", String::new()), |part| referred(part, place))
}

/// Required ones first, in the order of the code; then the others by name.
pub(crate) fn keys(schema: &Value) -> Vec<Key<'_>> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut keys: Vec<_> = properties
        .map(|(name, schema)| Key { name, schema, required: required.contains(&name.as_str()) })
        .collect();
    let rank = |key: &Key<'_>| required.iter().position(|name| *name == key.name).unwrap_or(usize::MAX);
    keys.sort_by_key(|key| (rank(key), key.name));
    keys
}

fn alternatives(schema: &Value) -> &[Value] {
    let of = schema.get("anyOf").or_else(|| schema.get("oneOf"));
    of.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Words of which one must be written, and none of which needs explaining.
fn is_plain_choice(schema: &Value) -> bool {
    schema.get("enum").is_some()
}

/// What a key holds, in words; types are links to their sections.
pub(crate) fn holds(root: &Value, schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let schema = &root["$defs"][name];
        return match is_plain_choice(schema) {
            true => holds(root, schema),
            false => format!("[{name}](#{})", name.to_lowercase()),
        };
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(" or ");
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("`{word}`");
    }
    let parts = alternatives(schema);
    if !parts.is_empty() {
        let parts: Vec<_> =
            parts.iter().filter(|part| part["type"] != "null").map(|part| holds(root, part)).collect();
        return parts.join(" or ");
    }
    let of = schema["type"].as_array().into_iter().flatten().chain([&schema["type"]]);
    let word = of.filter_map(Value::as_str).find(|word| *word != "null").unwrap_or("anything");
    match word {
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => format!("list of {}", holds(root, &schema["items"])),
        "object" => format!("by name: {}", holds(root, &schema["additionalProperties"])),
        other => other.to_owned(),
    }
}

/// What an absent key means, where the schema tells; else the text does.
pub(crate) fn default_of(key: &Key<'_>) -> String {
    match &key.schema["default"] {
        _ if key.required => "**required**".to_owned(),
        Value::Null => "–".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) if items.is_empty() => "empty".to_owned(),
        Value::Object(entries) if entries.is_empty() => "empty".to_owned(),
        other => format!("`{other}`"),
    }
}

/// A doc comment as one line of a table or one paragraph.
pub(crate) fn told(schema: &Value) -> String {
    let words = schema["description"].as_str().unwrap_or_default().split_whitespace();
    cell(&words.collect::<Vec<_>>().join(" "))
}

/// Text that does not end a cell of a table.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The section of a type.
pub(crate) fn write(page: &mut String, root: &Value, section: &Section<'_>) {
    let _ = write!(page, "\n## {}\n\n{}\n", section.name, told(section.schema));
    if !section.places.is_empty() {
        let places: Vec<_> = section.places.iter().map(|place| format!("`{place}`")).collect();
        let _ = write!(page, "\nStands at {}.\n", places.join(", "));
    }
    let keys = keys(section.schema);
    if keys.is_empty() {
        page.push_str("\n| Written as | Means |\n|---|---|\n");
        for part in alternatives(section.schema) {
            let _ = writeln!(page, "| {} | {} |", holds(root, part), told(part));
        }
        return;
    }
    page.push_str("\n| Key | Holds | Default | Meaning |\n|---|---|---|---|\n");
    for key in keys {
        let (name, holds) = (key.name, holds(root, key.schema));
        let _ = writeln!(page, "| `{name}` | {holds} | {} | {} |", default_of(&key), told(key.schema));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_key_holds_is_told_in_words() {
        let root = json!({ "$defs": {
            "Lane": { "type": "object", "properties": {} },
            "Device": { "type": "string", "enum": ["cpu", "cuda"] },
        }});
        let cases = [
            (json!({ "type": ["integer", "null"] }), "whole number"),
            (json!({ "type": "array", "items": { "$ref": "#/$defs/Device" } }), "list of `cpu` or `cuda`"),
            (json!({ "anyOf": [{ "$ref": "#/$defs/Lane" }, { "type": "null" }] }), "[Lane](#lane)"),
            (json!({ "type": "object", "additionalProperties": { "type": "string" } }), "by name: text"),
        ];
        for (schema, words) in cases {
            assert_eq!(holds(&root, &schema), words);
        }
    }

    #[test]
    fn a_type_has_one_section_that_names_all_places() {
        let list = json!({ "type": "array", "items": { "$ref": "#/$defs/Column" } });
        let root = json!({
            "title": "Input",
            "properties": { "columns": list, "field": { "$ref": "#/$defs/Column" } },
            "$defs": { "Column": { "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/Spec" }] }, "Spec": {} },
        });
        let sections = sections(&root);
        let found: Vec<_> = sections.iter().map(|section| (section.name, section.places.join(" "))).collect();
        let both = "columns[] field".to_owned();
        let expected = [("Input", String::new()), ("Column", both.clone()), ("Spec", both)];
        assert_eq!(found, expected);
    }

    #[test]
    fn required_keys_come_first_and_a_default_is_told() {
        let schema = json!({
            "properties": { "a": { "default": [] }, "b": { "default": "skip" }, "z": {} }, "required": ["z"],
        });
        let told: Vec<_> =
            keys(&schema).iter().map(|key| format!("{} {}", key.name, default_of(key))).collect();
        assert_eq!(told, ["z **required**", "a empty", "b `skip`"]);
    }
}
