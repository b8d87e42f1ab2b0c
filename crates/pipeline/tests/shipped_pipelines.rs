//! The pipelines that readers may copy are sound, and their fields are those of their schemas.

use std::{fs, path::Path};

use twinlane_pipeline::{FeatureEncoder, Plan, RuleSet};
use twinlane_record::SchemaFolder;

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn read(file: &str) -> String {
    let file = repository().join(file);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn compiles(text: &str, file: &str, schemas: &SchemaFolder) -> Result<(), twinlane_pipeline::Error> {
    let plan = Plan::parse(text, file)?;
    let folder = repository().join(file);
    let folder = folder.parent().expect("a file is in a folder");
    let fields = |subject: &str| schemas.latest(subject).map(|schema| schema.field_names());
    for source in 0..plan.sources.len() {
        RuleSet::compile(&plan, source, &fields)?;
    }
    for task in &plan.tasks {
        FeatureEncoder::new(task, &|file| fs::read_to_string(folder.join(file)))?;
    }
    Ok(())
}

#[test]
fn the_shipped_pipelines_fit_the_shipped_schemas() {
    let schemas = SchemaFolder::open(&repository().join("schemas")).expect("the shipped schemas");
    for file in ["pipelines/commerce/pipeline.yaml", "pipelines/example-iris/pipeline.yaml"] {
        compiles(&read(file), file, &schemas).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_pipeline_whose_models_and_tokenizer_are_built_later_is_sound() {
    let file = "pipelines/reviews/pipeline.yaml";
    let plan = Plan::parse(&read(file), file).unwrap_or_else(|error| panic!("{error}"));
    assert!(!plan.needs_router(), "both sources are read directly");
}

#[test]
fn the_shop_of_the_whole_service_tests_is_sound() {
    let file = "tests/src/shop.yaml";
    let text = read(file).replace("{shop}", "shop").replace("{models}", "models");
    compiles(&text, file, &SchemaFolder::default()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_typing_error_in_the_commerce_pipeline_is_found() {
    let schemas = SchemaFolder::open(&repository().join("schemas")).expect("the shipped schemas");
    let file = "pipelines/commerce/pipeline.yaml";
    let sound = read(file);
    for (found, by, says) in [
        ("when: event.test", "when: event.tset", "did you mean `test`"),
        ("- card_orders", "- card_ordres", "did you mean `card_orders`"),
        ("each: card_recent", "each: card_recnet", "did you mean `card_recent`"),
        ("carry: [order_id]", "carry: [oder_id]", "did you mean `order_id`"),
        (
            "vocabularies/country.txt, unknown: 0",
            "vocabularies/country.txt, unknown: 9999",
            "`unknown` is 9999",
        ),
    ] {
        let line = 1 + sound.lines().position(|line| line.contains(found)).expect(found);
        let said = compiles(&sound.replacen(found, by, 1), file, &schemas).expect_err(by).to_string();
        let here = |line: usize| said.starts_with(&format!("{file}:{line}:"));
        assert!(here(line) && said.contains(says), "{said}");
    }
}
