//! `docs/pipeline-file.md`, written from the types that the pipeline file is read into.

use serde_json::Value;

use crate::schema_tables::{sections, write};

const HEAD: &str = "# The pipeline file

Written by `cargo xtask docs` from the types that the file is read into (`crates/pipeline/src/raw.rs`); a test fails when this
page differs.

A pipeline file is YAML. A key that is not listed here is refused, with its line and what would be right; paths in it are
relative to it. `twinlane check` reads it, holds it against the models and says what would run; `twinlane schema` prints these
types as a JSON Schema for editors. A whole file is [the reference pipeline](../pipelines/commerce/pipeline.yaml), a short one
[the iris example](../pipelines/example-iris/pipeline.yaml). What the words mean stands in [concepts](concepts.md).

`NAME` in a path is a name that you choose, `[]` an item of a list. *Default* is what an absent key means where that is one
value; for –, the meaning says it.
";

/// The page.
pub(crate) fn pipeline_page() -> String {
    let root: Value = serde_json::from_str(&twinlane_pipeline::json_schema()).expect("a schema is JSON");
    let mut page = HEAD.to_owned();
    for section in sections(&root) {
        write(&mut page, &root, &section);
    }
    page
}
