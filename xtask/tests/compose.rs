//! The compose files and the Dockerfile are there to be copied, so what stands in them is held against what the tests run,
//! and against what they promise: nothing beyond localhost, no more rights than needed, bases that do not move.

use serde_json::Value;
use twinlane_testkit::jars::KAFKA_VERSION;

const DOCKERFILE: &str = include_str!("../../Dockerfile");
const COMPOSE: &str = include_str!("../../docker-compose.yml");
const GPU: &str = include_str!("../../docker-compose.gpu.yml");

fn parsed(file: &str) -> Value {
    serde_saphyr::from_str(file).expect("a YAML file")
}

/// Each service with its name.
fn services(file: &str) -> Vec<(String, Value)> {
    let file = parsed(file);
    let services = file["services"].as_object().expect("services have names");
    assert!(!services.is_empty());
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().expect("a string")).collect()
}

/// The stages that the Dockerfile builds.
fn stages() -> Vec<&'static str> {
    let stages = DOCKERFILE.lines().filter_map(|line| line.strip_prefix("FROM ")?.split_once(" AS "));
    stages.map(|(_, stage)| stage).collect()
}

/// The value of a line `NAME=value`, behind `ARG` or `ENV`.
fn assigned(name: &str) -> &'static str {
    let mut values =
        DOCKERFILE.lines().filter_map(|line| line.split_once(' ')?.1.strip_prefix(name)?.strip_prefix('='));
    values.next().unwrap_or_else(|| panic!("the Dockerfile sets no {name}"))
}

#[test]
fn the_compose_file_starts_the_kafka_that_the_tests_run() {
    let kafka = &parsed(COMPOSE)["services"]["kafka"];
    assert_eq!(kafka["image"], format!("apache/kafka:{KAFKA_VERSION}"));
    assert_eq!(kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"], "false");
}

#[test]
fn kafka_answers_programs_on_this_machine_and_those_in_the_file() {
    let kafka = &parsed(COMPOSE)["services"]["kafka"];
    let advertised = kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].as_str().expect("listeners");
    assert_eq!(advertised, "PLAINTEXT://localhost:9092,INTERNAL://kafka:19092");
    assert_eq!(strings(&kafka["ports"]), ["127.0.0.1:9092:9092"]);
    let mut inside = 0;
    for (name, service) in services(COMPOSE) {
        for variable in ["KAFKA_BROKERS", "TWINLANE_KAFKA__BROKERS", "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS"] {
            if let Some(brokers) = service["environment"].get(variable) {
                assert_eq!(brokers, "kafka:19092", "{name}");
                inside += 1;
            }
        }
    }
    assert_eq!(inside, 6, "three services, the source of events, the topics, and the registry");
}

#[test]
fn nothing_listens_beyond_localhost() {
    for (name, service) in services(COMPOSE) {
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
        assert_eq!(service.get("network_mode"), None, "{name}");
    }
    for (name, service) in services(GPU) {
        assert_eq!(service.get("ports"), None, "{name}");
    }
}

#[test]
fn no_container_has_more_rights_than_it_needs() {
    for (name, service) in services(COMPOSE) {
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(strings(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert_eq!(service.get("privileged"), None, "{name}");
        if service.get("build").is_some() {
            assert_eq!(service["read_only"], true, "{name}");
        }
    }
}

#[test]
fn whoever_needs_another_waits_until_that_one_is_well() {
    let file = parsed(COMPOSE);
    let mut waits = 0;
    for (name, service) in services(COMPOSE) {
        for (needed, how) in service["depends_on"].as_object().into_iter().flatten() {
            let condition = how["condition"].as_str().expect("a condition");
            let needed_service = &file["services"][needed];
            let checked =
                needed_service.get("healthcheck").is_some() || needed_service.get("build").is_some();
            assert!(condition != "service_started" && checked, "{name} needs {needed}");
            waits += 1;
        }
    }
    assert!(waits >= 9, "{waits}");
}

#[test]
fn every_image_that_is_built_is_a_stage_that_is_not_roots() {
    let stages = stages();
    for (name, service) in services(COMPOSE).into_iter().chain(services(GPU)) {
        let Some(target) = service["build"]["target"].as_str() else { continue };
        assert!(
            stages.contains(&target),
            "{name} is built from the stage {target}, and there are {stages:?}"
        );
        let image = service["image"].as_str().expect("an image");
        assert_eq!(image, format!("twinlane/{target}:{}", env!("CARGO_PKG_VERSION")), "{name}");
    }
    // One for the services and the command, one for the source of events.
    assert_eq!(DOCKERFILE.lines().filter(|line| *line == "USER 65532:65532").count(), 2);
    let last = DOCKERFILE.lines().filter(|line| line.starts_with("USER ")).count();
    assert_eq!(last, 2, "no stage becomes root again");
}

#[test]
fn what_others_made_is_taken_in_a_version_that_does_not_move() {
    for (name, service) in services(COMPOSE) {
        let image = service["image"].as_str().expect("an image");
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name} takes any {image}"));
        assert_eq!(tag.trim_start_matches('v').split('.').count(), 3, "{name} takes {image}");
    }
    for name in ["RUST_IMAGE", "RUNTIME_IMAGE"] {
        let (_, digest) = assigned(name).split_once("@sha256:").expect("a digest");
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    }
}

#[test]
fn images_are_built_with_the_pinned_rust() {
    let pinned = include_str!("../../rust-toolchain.toml");
    let channel = pinned.split('"').nth(1).expect("a channel");
    assert_eq!(assigned("RUSTUP_TOOLCHAIN"), channel);
    assert!(assigned("RUST_IMAGE").starts_with(&format!("rust:{channel}-slim-bookworm@")));
}

#[test]
fn a_service_has_time_to_end_by_itself() {
    // The limit of a clean stop in crates/service/src/process.rs is 15 s.
    for (name, service) in services(COMPOSE) {
        if ["router", "precision-worker", "throughput-worker"].contains(&name.as_str()) {
            assert_eq!(service["stop_grace_period"], "20s", "{name}");
        }
    }
}
