//! Properties of librdkafka as they stand in settings: by dotted names, some of them secret, and some in files.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{MapAccess, Visitor},
};

use crate::Kafka;

/// Shows them without their secrets.
pub(crate) fn serialize<S: Serializer>(
    properties: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(twinlane_kafka::shown(properties))
}

/// Takes `"sasl.password"`, `sasl.password` (which TOML and the environment read as tables in each other), and `sasl_password`,
/// since no shell exports a name with dots, and no property has an underscore.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let mut properties = BTreeMap::new();
    let mut named: Vec<(String, Node)> = BTreeMap::deserialize(deserializer)?.into_iter().collect();
    // Two spellings of one property stand here when one comes from the environment, which wins and has no quotes.
    named.sort_by_key(|(name, node)| (name.contains('_'), matches!(node, Node::Table(_))));
    named.into_iter().for_each(|(name, node)| node.flatten(name.replace('_', "."), &mut properties));
    Ok(properties)
}

enum Node {
    Value(String),
    Table(BTreeMap<String, Node>),
}

impl Node {
    fn flatten(self, name: String, into: &mut BTreeMap<String, String>) {
        match self {
            Self::Value(value) => drop(into.insert(name, value)),
            Self::Table(nodes) => nodes.into_iter().for_each(|(part, node)| {
                node.flatten(format!("{name}.{}", part.replace('_', ".")), into);
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

/// What a file writes as a number or `true` is text for librdkafka.
macro_rules! as_text {
    ($($visit:ident: $of:ty),*) => {
        $(fn $visit<E>(self, value: $of) -> Result<Node, E> {
            Ok(Node::Value(value.to_string()))
        })*
    };
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the value of a librdkafka property")
    }

    as_text!(visit_str: &str, visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut nodes = BTreeMap::new();
        while let Some((name, node)) = map.next_entry()? {
            nodes.insert(name, node);
        }
        Ok(Node::Table(nodes))
    }
}

/// Reads the files with secrets.
///
/// # Errors
/// A sentence with the property and its file.
pub(crate) fn read(kafka: &Kafka) -> Result<BTreeMap<String, String>, String> {
    let sections = [("common", &kafka.common), ("consumer", &kafka.consumer), ("producer", &kafka.producer)];
    let mut read = BTreeMap::new();
    for (property, file) in &kafka.secrets {
        if let Some((section, _)) = sections.iter().find(|(_, properties)| properties.contains_key(property))
        {
            return Err(format!(
                "`{property}` stands in kafka.secrets and in kafka.{section}; leave one of them out"
            ));
        }
        let value = std::fs::read_to_string(file).map_err(|error| {
            format!("the file {file} for `{property}` in kafka.secrets cannot be read: {error}")
        })?;
        let value = value.strip_suffix('\n').unwrap_or(&value);
        let value = value.strip_suffix('\r').unwrap_or(value);
        if value.is_empty() {
            return Err(format!(
                "the file {file} for `{property}` in kafka.secrets is empty; put the value into it"
            ));
        }
        read.insert(property.clone(), value.to_owned());
    }
    Ok(read)
}
