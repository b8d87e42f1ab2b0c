//! The pipeline file: from YAML to a checked [`Plan`], compiled routing rules, and the encoder that fills a
//! model's tensors from an event. Pure: checking does no I/O, and a wrong file is refused with its line, what
//! was found and what would be right.
//!
//! ```text
//!  text ─► raw (serde, unknown fields refused) ─► check ─► Plan ─┬─► RuleSet         event ─► route
//!                                                                └─► FeatureEncoder  event ─► Row
//! ```

mod check;
mod check_routes;
mod check_tasks;
mod check_topics;
mod describe;
mod error;
mod features;
mod instant;
mod place;
mod plan;
mod raw;
mod rule_budget;
mod rule_check;
mod rule_names;
mod rule_outcome;
mod rule_simple;
mod rules;
mod schema_fields;
mod similar;
mod text;

pub use error::Error;
pub use features::{Dim, FeatureEncoder, Kind, Row, RowTensor, TensorData, TensorSpec};
pub use place::Place;
pub use plan::{
    Action, Apply, BelowStart, Column, Conversion, DeadLetterLimit, Device, InFlight, Input, Lane, LaneName,
    ModelFile, Models, OutputKind, OutputSpec, Plan, Publish, Route, Rule, Source, Task, TaskPlaces,
    Tombstones, Topic, Variant, Vocabulary,
};
pub use rules::RuleSet;

/// The pipeline file's JSON Schema, for editors.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(raw::Pipeline);
    serde_json::to_string_pretty(&schema).expect("a schema is plain JSON")
}
