//! What `twinlane check` prints of a plan.

use twinlane_pipeline::Plan;

const SHOP: &str = "\
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

fn described(text: &str) -> String {
    let plan = Plan::parse(text, "shop.yaml").unwrap_or_else(|error| panic!("{error}"));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    plan.to_string().lines().map(words).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_description_tells_who_reads_what_and_which_topics_are_made() {
    assert_eq!(
        described(SHOP),
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

#[test]
fn a_lane_whose_workers_read_mixed_sources_has_no_topics_of_its_own_and_no_stage_of_the_router() {
    let shop = SHOP.replace("  - { from: events, task: click", "  - { from: events, when: event.paid, task: risk, lane: precision }\n  - { from: events, task: click");
    let precision = shop.replace("max_batch: 8 }", "max_batch: 8, direct: true }");
    let plan = described(&precision);
    let says = |line: &str| assert!(plan.lines().any(|found| found == line), "{line:?} is not in\n{plan}");
    says("shop.events read directly by the precision workers, read by the router");
    says("its source → risk → scores.orders");
    says("router: one stage per lane, groups shop.router.throughput");
    assert!(!plan.contains("shop.precision.risk"), "{plan}");

    let both = described(&precision.replace("max_batch: 64,", "max_batch: 64, direct: true,"));
    assert!(
        both.contains(
            "shop.events read directly by the precision workers, read directly by the throughput workers\n"
        ),
        "{both}"
    );
    assert!(both.contains("router: not needed") && !both.contains("shop.throughput.click"), "{both}");

    // The last lane settles what belongs to none, although no event of this source is its own.
    let of_one = described(
        &shop
            .replace("from: events, task: click", "from: orders, when: event.seen, task: click")
            .replace("max_batch: 64,", "max_batch: 64, direct: true,"),
    );
    assert!(
        of_one.contains("shop.events read directly by the throughput workers, read by the router"),
        "{of_one}"
    );
}

#[test]
fn a_lane_that_reads_several_tasks_from_one_source_itself_is_told_that_they_wait_for_each_other() {
    let note = "note: the tasks of shop.events wait for each other; without `direct: true` the router keeps them apart";
    let two = SHOP.replace("from: events, task: click, lane: throughput }", "from: events, when: event.paid, task: risk, lane: throughput }\n  - { from: events, task: click, lane: throughput }").replace("models: { full: risk.onnx }", "models: { full: risk.onnx, distilled: small.onnx }");
    let direct = |text: &str| described(&text.replace("max_batch: 64,", "max_batch: 64, direct: true,"));
    assert!(direct(&two).contains(note), "{}", direct(&two));
    assert!(!described(&two).contains("wait for each other"), "the router keeps them apart");
    assert!(!direct(SHOP).contains("wait for each other"), "one task");
}
