//! No pipeline file of a few kilobytes takes minutes to check, or makes gigabytes of an event.

use std::time::{Duration, Instant};

use twinlane_pipeline::Plan;

const IRIS: &str = include_str!("../../../pipelines/example-iris/pipeline.yaml");

#[test]
fn a_task_takes_a_bounded_number_of_numbers_from_an_event() {
    let history = |columns: usize| {
        let columns = vec!["a"; columns].join(",");
        let inputs = format!("inputs:\n      H: {{ each: h, keep_last: 4096, columns: [{columns}] }}");
        Plan::parse(&IRIS.replace("inputs:", &inputs), "iris.yaml")
    };
    assert!(history(63).is_ok());
    let refused = history(64).expect_err("4096 · 64, and the other input").to_string();
    assert!(refused.starts_with("iris.yaml:11:"), "{refused}");
    assert!(refused.contains("takes up to 262148 numbers from an event; at most 262144"), "{refused}");
}

#[test]
fn thousands_of_routes_of_one_name_are_numbered_at_once() {
    let route = "  - { from: garden, task: species, lane: precision }\n";
    let routes = route.replace(" }", ", when: event.a }").repeat(10_000);
    let began = Instant::now();
    let plan = Plan::parse(&IRIS.replace(route, &routes), "iris.yaml").expect("valid");
    assert_eq!(&*plan.routes[9_999].name, "garden-species-10000");
    // It takes about a second; counted from the beginning each time, it takes a minute.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn nesting_and_aliases_cost_nothing() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000)] {
        assert!(Plan::parse(&text, "deep.yaml").is_err(), "{}", &text[..4]);
    }
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let alias = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", vec![alias; 9].join(", ")));
    }
    assert!(Plan::parse(&format!("{laughs}pipeline: *a19\n"), "laughs.yaml").is_err());
    assert!(Plan::parse(&format!("pipeline: p\nsources: {{ a: *a }}\n{laughs}"), "laughs.yaml").is_err());
}
