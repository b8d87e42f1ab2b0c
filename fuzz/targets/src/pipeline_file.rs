//! The pipeline file: any text, and what becomes of one that is accepted.

use twinlane_pipeline::{FeatureEncoder, Plan, RuleSet};
use twinlane_record::Value;

use crate::{
    rules::samples,
    shipped::{SHIPPED, fields, fits_or_is_refused, vocabulary},
};

/// A pipeline file's text. One that is accepted describes itself, and is assembled as far as it goes without I/O.
pub fn pipeline_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let plan = match Plan::parse(text, "fuzz.yaml") {
        Ok(plan) => plan,
        Err(error) => {
            return assert!(error.to_string().len() > "fuzz.yaml".len() + 2, "a refusal without words");
        }
    };
    assert!(plan.to_string().starts_with("pipeline "), "a plan describes itself");
    assert!(!plan.topics().is_empty(), "there are dead letters");
    for source in 0..plan.sources.len() {
        if let Err(error) = RuleSet::compile(&plan, source, &|name| fields(&SHIPPED.schemas, name)) {
            assert!(!error.message.is_empty(), "a refusal without words");
        }
    }
    for task in &plan.tasks {
        match FeatureEncoder::new(task, &vocabulary) {
            Ok(encoder) => {
                samples().for_each(|event| fits_or_is_refused(&encoder, event));
                fits_or_is_refused(&encoder, &Value::Record(Vec::new()));
            }
            Err(error) => assert!(!error.message.is_empty(), "a refusal without words"),
        }
    }
}
