//! What the Helm chart passes to the services must be what they take. `deploy/helm/check.sh` renders the chart; this reads
//! its templates, so that it needs no Helm.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::PathBuf,
};

use config::{Config, Environment};
use serde_json::Value;
use twinlane_pipeline::{LaneName, Plan};
use twinlane_service::{Flags, Settings};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The chart's templates and the values that it is tried with, one after the other.
fn chart() -> String {
    let mut text = String::new();
    for folder in ["templates", "ci"] {
        let folder = repository().join("deploy/helm/twinlane").join(folder);
        for file in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let file = file.expect("a folder that can be listed").path();
            text += &fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
    text
}

/// Names of settings in the environment.
fn variables(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_')
        .filter(|word| word.len() > "TWINLANE_".len() && word.starts_with("TWINLANE_"))
        .collect()
}

/// Settings from the environment, read as a service reads them.
fn from_environment(variables: HashMap<String, String>) -> Result<Settings, config::ConfigError> {
    let environment = Environment::with_prefix("TWINLANE").prefix_separator("_").separator("__");
    let environment = environment.source(Some(variables));
    Config::builder().add_source(environment).build()?.try_deserialize()
}

/// A value that a setting takes: its default, or a number where it has none.
fn plausible(variable: &str) -> String {
    let defaults = serde_json::to_value(Settings::default()).expect("settings can be written");
    let path = variable["TWINLANE_".len()..].to_ascii_lowercase().replace("__", "/");
    match defaults.pointer(&format!("/{path}")) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "1".into(),
        Some(other) => other.to_string(),
    }
}

#[test]
fn every_variable_that_the_chart_sets_is_a_setting() {
    let chart = chart();
    let variables = variables(&chart);
    for needed in ["TWINLANE_PIPELINE", "TWINLANE_ORDINAL", "TWINLANE_ADMIN_HOST", "TWINLANE_KAFKA__BROKERS"]
    {
        assert!(variables.contains(needed), "the chart sets no {needed}; found {variables:?}");
    }
    for variable in variables {
        let alone = HashMap::from([(variable.to_owned(), plausible(variable))]);
        if let Err(error) = from_environment(alone) {
            panic!("the chart sets {variable}: {error}");
        }
    }
}

#[test]
fn a_variable_that_is_no_setting_is_found_out() {
    for (variable, value) in [("TWINLANE_ADMIN_HOTS", "0.0.0.0"), ("TWINLANE_KAFKA__BROKER", "kafka:9092")] {
        let error = from_environment(HashMap::from([(variable.into(), value.into())]));
        assert!(error.is_err(), "{variable}");
    }
}

/// An older cluster knows no label with the ordinal, and the variable is empty then.
#[test]
fn an_ordinal_that_is_missing_is_refused_and_not_taken_for_0() {
    let empty = HashMap::from([("TWINLANE_ORDINAL".to_owned(), String::new())]);
    assert!(from_environment(empty).is_err());
    let first = HashMap::from([("TWINLANE_ORDINAL".to_owned(), "0".to_owned())]);
    assert_eq!(from_environment(first).expect("a number").ordinal, Some(0));
}

fn from_file(text: &str) -> Settings {
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
    fs::write(file.path(), text).expect("written");
    let flags =
        Flags { settings: Some(file.path().into()), pipeline: Some("p.yaml".into()), ..Flags::default() };
    Settings::load(&flags).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

#[test]
fn every_section_of_the_settings_file_that_the_chart_writes_exists() {
    let template = read("deploy/helm/twinlane/templates/configmaps.yaml");
    let sections: Vec<_> =
        template.lines().map(str::trim).filter(|line| line.starts_with('[') && line.ends_with(']')).collect();
    assert_eq!(sections, ["[kafka.common]", "[kafka.consumer]", "[kafka.producer]", "[kafka.secrets]"]);
    let file: String = sections.iter().map(|section| format!("{section}\n\"a.b\" = \"c\"\n")).collect();
    let settings = from_file(&file);
    let kafka = settings.kafka;
    for properties in [kafka.common, kafka.consumer, kafka.producer, kafka.secrets] {
        assert_eq!(properties["a.b"], "c");
    }
}

#[test]
fn the_settings_files_that_the_pages_show_are_taken() {
    let pages = [read("deploy/helm/README.md"), read("docs/secured-cluster.md")];
    let examples: Vec<_> = pages
        .iter()
        .flat_map(|page| page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()))
        .collect();
    assert!(examples.len() >= 5, "the pages show {} settings files", examples.len());
    for example in examples {
        assert!(!from_file(example).kafka.common.is_empty(), "{example}");
    }
}

#[test]
fn probes_ask_for_what_the_admin_port_serves() {
    let (template, served) =
        (read("deploy/helm/twinlane/templates/_statefulset.tpl"), include_str!("../src/admin.rs"));
    let asked: Vec<_> =
        template.split("path: /health/").skip(1).filter_map(|rest| rest.split(',').next()).collect();
    assert_eq!(asked, ["startup", "ready", "live"]);
    for path in asked {
        assert!(served.contains(&format!(".route(\"/health/{path}\"")), "{path}");
    }
}

/// The value that follows a text.
fn number_after(text: &str, before: &str) -> u64 {
    let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("no {before}"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|error| panic!("after {before}: {error}"))
}

#[test]
fn kubernetes_waits_longer_for_a_stop_than_the_service_does() {
    let limit =
        number_after(include_str!("../src/process.rs"), "STOP_LIMIT: Duration = Duration::from_secs(");
    let schema: Value =
        serde_json::from_str(&read("deploy/helm/twinlane/values.schema.json")).expect("valid JSON");
    let least = &schema["properties"]["pod"]["properties"]["terminationGracePeriodSeconds"]["minimum"];
    assert!(least.as_u64().is_some_and(|least| least > limit), "{least} against {limit}");
}

#[test]
fn lag_is_asked_for_by_the_names_that_groups_and_topics_have() {
    let plan = Plan::parse(&read("pipelines/commerce/pipeline.yaml"), "pipeline.yaml").expect("valid");
    let template = read("deploy/helm/twinlane/templates/keda.yaml");
    // The chart's words for the router's groups and a lane's, and what the plan says with these words.
    assert!(template.contains(r#"printf "%s.%s" $pipeline $stage"#));
    assert!(template.contains(r#"printf "%s.router.%s" $pipeline $lane"#));
    assert_eq!(plan.lane_group(LaneName::Precision), "commerce.precision");
    assert_eq!(plan.router_group(LaneName::Throughput), "commerce.router.throughput");

    let values = read("deploy/helm/twinlane/ci/autoscaled.yaml");
    for topic in plan.topics().iter().filter(|topic| {
        let lanes = ["commerce.precision.", "commerce.throughput."];
        lanes.iter().any(|lane| topic.name.starts_with(lane))
    }) {
        let line = format!("name: {}, partitions: {}, transactional: true", topic.name, topic.partitions);
        assert!(values.contains(&line), "no {line}");
    }
}
