//! What `twinlane check` prints of a plan.

use twinlane_pipeline::Plan;

#[test]
fn a_description_tells_who_reads_what_and_which_topics_are_made() {
    let text = "\
pipeline: shop
sources:
  events: { topic: shop.events, format: json }
  orders: { topic: shop.orders, format: json }
routes:
  - { from: events, when: event.test, skip: test traffic }
  - { from: events, task: click, lane: throughput }
  - { from: orders, task: risk, lane: precision }
tasks:
  risk:
    models: { full: risk.onnx }
    inputs: { x: { columns: [amount] } }
    outputs: { risk: { tensor: y, kind: number } }
    publish: { topic: scores.orders, format: json, partitions: 3 }
  click:
    models: { distilled: click.onnx }
    inputs: { x: { columns: [x] } }
    outputs: { kind: { tensor: y, kind: number } }
    publish: { topic: scores.clicks, format: json }
lanes:
  precision: { model: full, device: [cuda, cpu], max_batch: 8 }
  throughput: { model: distilled, device: [cpu], max_batch: 64, window: 1s, partitions: 2 }
dead_letters: { topic: shop.dead-letters }
";
    let plan = Plan::parse(text, "shop.yaml").unwrap_or_else(|error| panic!("{error}"));
    let described: Vec<String> =
        plan.to_string().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        described.join("\n"),
        "\
pipeline shop

sources
shop.events read by the router
shop.orders read directly by the precision workers

routes (the first that matches wins; no match is a dead letter)
events-skip event.test skip: test traffic
events-click always throughput → click
orders-risk always precision → risk

lanes
precision full models on cuda else cpu, batches up to 8, a transaction at most every 5ms, group shop.precision
its source → risk → scores.orders
throughput distilled models on cpu, batches up to 64, a transaction at most every 1s, group shop.throughput
shop.throughput.click → click → scores.clicks

router: one stage per lane, groups shop.router.precision, shop.router.throughput

topics that Twinlane writes
shop.dead-letters 6 partitions
shop.throughput.click 2 partitions
scores.clicks 6 partitions
scores.orders 3 partitions"
    );
}
