//! The compose file is there to be copied, so what stands in it is held against what the tests run.

use serde_json::Value;
use twinlane_testkit::jars::KAFKA_VERSION;

fn kafka() -> Value {
    let file: Value = serde_saphyr::from_str(include_str!("../../docker-compose.yml")).expect("a YAML file");
    file["services"]["kafka"].clone()
}

#[test]
fn the_compose_file_starts_the_kafka_that_the_tests_run() {
    assert_eq!(kafka()["image"], format!("apache/kafka:{KAFKA_VERSION}"));
}

#[test]
fn the_compose_file_makes_topics_on_request_only_and_answers_where_its_comment_says() {
    let kafka = kafka();
    assert_eq!(kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"], "false");
    assert_eq!(kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"], "PLAINTEXT://localhost:9092");
    assert_eq!(kafka["ports"], serde_json::json!(["9092:9092"]));
}
