//! A wrong pipeline file is refused with its line, what was found and what would be right.

use twinlane_pipeline::Plan;

/// A sound file; each test spoils one thing.
const SOUND: &str = "\
pipeline: shop
sources:
  events: { topic: shop.events, format: json }
  orders: { topic: shop.orders, format: avro, schemas: [order] }
routes:
  - { from: events, when: event.kind == 'click', task: click, lane: throughput }
  - { from: orders, task: risk, lane: precision }
tasks:
  risk:
    models: { full: risk.onnx }
    inputs:
      x: { columns: [amount, { field: country, as: number, missing: 0 }] }
    outputs:
      risk: { tensor: logits, kind: class, labels: [good, bad] }
    publish: { topic: scores.orders, format: avro, carry: [id] }
  click:
    models: { distilled: click.onnx }
    inputs:
      x: { columns: [x, y, n] }
      country: { field: country, vocabulary: countries.txt, unknown: 0 }
      history: { each: recent, keep_last: 4, mask: history_mask, columns: [age] }
    outputs:
      kind: { tensor: p, kind: class, labels: [NO, yes, on] }
    publish: { topic: scores.clicks, format: json, carry: [id] }
lanes:
  precision: { model: full, device: [cpu], max_batch: 8 }
  throughput: { model: distilled, device: [cpu], max_batch: 64 }
dead_letters: { topic: shop.dead-letters }
";

fn refused(found: &str, by: &str) -> String {
    assert!(SOUND.contains(found), "{found}");
    let spoiled = SOUND.replacen(found, by, 1);
    match Plan::parse(&spoiled, "shop.yaml") {
        Ok(_) => panic!("accepted: {by}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_sound_file_is_accepted_and_words_that_look_like_booleans_are_words() {
    let plan = Plan::parse(SOUND, "shop.yaml").expect("a sound file");
    let text = format!("{:?}", plan.tasks);
    for word in ["\"y\"", "\"n\"", "\"NO\"", "\"yes\"", "\"on\""] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[test]
fn each_mistake_is_named_with_its_line_and_the_remedy() {
    let mut wrong = Vec::new();
    for (found, by, line, says) in [
        ("max_batch: 8 }", "max_batsch: 8 }", 26, "max_batsch"),
        ("full: risk.onnx", "full: { file: risk.onnx }", 10, "sha256"),
        ("full: risk.onnx", "full: { file: risk.onnx, sha256: 12ab }", 10, "64 hex digits"),
        ("full: risk.onnx", "full: [risk.onnx]", 10, "a file's path, or { file"),
        ("max_batch: 8 }", "max_batch: 0 }", 26, "max_batch"),
        ("max_batch: 8 }", "max_batch: eight }", 26, "a whole number is due"),
        ("device: [cpu], max_batch: 8", "device: [], max_batch: 8", 26, "write [cpu] or [cuda, cpu]"),
        ("device: [cpu], max_batch: 8", "device: [tpu], max_batch: 8", 26, "tpu"),
        ("task: risk, lane", "task: risc, lane", 7, "did you mean `risk`"),
        ("from: orders", "from: order", 7, "did you mean `orders`"),
        ("lane: precision }", "lane: precise }", 7, "no lane is called `precise`"),
        ("task: risk, lane: precision", "task: risk, lane: throughput", 7, "add `models.distilled`"),
        ("task: risk, lane: precision", "task: risk", 7, "needs `task` and `lane`"),
        ("task: risk, lane: precision", "task: risk, lane: precision, skip: no", 7, "either skips or scores"),
        ("models: { full: risk.onnx }", "models: {}", 10, "has no model"),
        ("kind: class, labels: [good, bad]", "kind: class, labels: [good]", 14, "at least two `labels`"),
        ("kind: class, labels: [good, bad]", "kind: class, labels: [a, a]", 14, "has the label `a` twice"),
        ("kind: class, labels: [good, bad]", "kind: number, labels: [a, b]", 14, "belong to kind `class`"),
        ("carry: [id] }\n  click", "carry: [id, id] }\n  click", 15, "`carry` names `id` twice"),
        ("columns: [x, y, n]", "columns: []", 19, "lists no columns"),
        ("unknown: 0", "unknown: -1", 20, "an index, counted from 0"),
        ("unknown: 0", "missing: 1.5", 20, "an index of the vocabulary"),
        ("unknown: 0", "zone: UTC", 20, "`zone` belongs to"),
        ("vocabulary: countries.txt, unknown: 0", "unknown: 0", 20, "needs a `vocabulary`"),
        ("as: number, missing: 0", "as: boolean, missing: 2", 12, "0 or 1"),
        ("as: number, missing: 0", "as: number, missing: .inf", 12, "finite"),
        ("as: number, missing: 0", "as: hour_of_day, zone: Mars", 12, "`Mars` is no zone"),
        ("keep_last: 4, ", "", 21, "needs `keep_last`"),
        ("mask: history_mask", "mask: x", 19, "filled twice"),
        ("lane: precision }", "lane: precision, name: Orders }", 7, "route name `Orders`"),
        ("unknown: 0", "missing: -1", 20, "an index of the vocabulary"),
        ("unknown: 0", "as: number", 20, "exclude each other"),
        ("x: { columns: [x, y, n] }", "x: { field: x, keep_last: 3 }", 19, "belong to `each`"),
        ("x: { columns: [x, y, n] }", "x: { columns: [x], missing: 0 }", 19, "belong to a column"),
        ("x: { columns: [x, y, n] }", "x: { each: recent }", 19, "`each` with `columns`"),
        ("x: { columns: [x, y, n] }", "x: { text: body }", 19, "needs `tokenizer`"),
        (
            "x: { columns: [x, y, n] }",
            "x: { text: body, tokenizer: t.json, mask: m }",
            19,
            "`text` needs `max_tokens`",
        ),
        (
            "x: { columns: [x, y, n] }",
            "x: { text: body, tokenizer: t.json, mask: m, max_tokens: 5000 }",
            19,
            "1 to 4096",
        ),
        (
            "x: { columns: [x, y, n] }",
            "x: { text: body, tokenizer: t.json, mask: m, max_tokens: 8, missing: 0 }",
            19,
            "with nothing else",
        ),
        (
            "x: { columns: [x, y, n] }",
            "x: { text: body, tokenizer: t.json, mask: m, max_tokens: 8, type_ids: m }",
            19,
            "filled twice",
        ),
        ("x: { columns: [x, y, n] }", "x: { columns: [x], max_tokens: 8 }", 19, "belong to `text`"),
        ("keep_last: 4", "keep_last: 0", 21, "1 to 4096"),
        ("  click:\n    models", "  risk:\n    models", 16, "duplicate"),
        (
            "lane: throughput }",
            "lane: throughput, name: a }\n  - { from: events, skip: it, name: a }",
            7,
            "two routes are called `a`",
        ),
        ("carry: [id] }\nlanes", "carry: [id], partitions: 0 }\nlanes", 24, "1 to 10000"),
        ("  click:\n    models", "  Click:\n    models", 17, "task name `Click`"),
        ("topic: shop.dead-letters", "topic: shop/dead", 28, "no topic name"),
        ("topic: shop.dead-letters", "topic: shop.precision.risk", 28, "the way from the router"),
        ("topic: shop.orders", "topic: shop.throughput.click", 4, "would be a loop"),
        ("max_batch: 8 }", "max_batch: 8, window: 1h }", 26, "`1h` is no window"),
        ("max_batch: 8 }", "max_batch: 8, window: 18446744073709551615s }", 26, "is no window"),
        ("max_batch: 8 }", "max_batch: 8, in_flight: { mib: 0 } }", 26, "at least 8 records"),
        ("max_batch: 8 }", "max_batch: 8, in_flight: { mib: 17592186044417 } }", 26, "than memory has"),
        ("format: avro, schemas: [order]", "format: avro", 4, "names no `schemas`"),
        (
            "format: json }\n  orders",
            "format: json, schemas: [a] }\n  orders",
            3,
            "JSON, which carries no schema",
        ),
        ("topic: shop.orders", "topic: shop.events", 4, "read by two sources"),
        ("topic: scores.clicks", "topic: shop.events", 24, "would be a loop"),
        ("topic: scores.clicks", "topic: shop.dead-letters", 24, "topics of their own"),
        ("topic: scores.clicks", "topic: shop.throughput.click", 24, "the way from the router"),
        ("topic: scores.clicks", "topic: scores.orders", 15, "two formats"),
        ("  - { from: orders, task: risk, lane: precision }\n", "", 4, "has no route"),
        ("pipeline: shop", "pipeline: Shop", 1, "lower-case"),
    ] {
        let said = refused(found, by);
        if !said.starts_with(&format!("shop.yaml:{line}:")) || !said.contains(says) {
            wrong.push(format!("`{by}` is refused with: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The whole of what is said, with its column.
#[test]
fn a_refusal_begins_with_file_line_and_column_and_ends_with_the_remedy() {
    for (found, by, said) in [
        (
            "max_batch: 8 }",
            "max_batsch: 8 }",
            "26:44: unknown field `max_batsch`, expected one of model, device, max_batch, window, direct, partitions, run_deadline, parity, model_threads, in_flight",
        ),
        ("from: orders", "from: order", "7:13: no source is called `order`; did you mean `orders`?"),
        (
            "task: risk, lane",
            "task: refunds, lane",
            "7:27: no task is called `refunds`; there is `click`, `risk`",
        ),
        (
            "lane: precision }",
            "lane: precison }",
            "7:39: no lane is called `precison`; did you mean `precision`?",
        ),
        (
            "task: risk, lane: precision",
            "task: risk, lane: throughput",
            "7:27: the lane throughput runs distilled models, and task `risk` has none; add `models.distilled`, or set the lane's `model`",
        ),
        ("device: [cpu], max_batch: 8 }", "device: [cpu] }", "26:29: missing field `max_batch`"),
        (
            "kind: class",
            "kind: klass",
            "14:37: unknown variant `klass`, expected one of class, number, vector",
        ),
        ("labels: [good, bad]", "labels: [good, good]", "14:59: output `risk` has the label `good` twice"),
        ("carry: [id] }\n  click", "carry: [id, id] }\n  click", "15:64: `carry` names `id` twice"),
        ("mask: history_mask", "mask: country", "21:52: tensor `country` is filled twice"),
    ] {
        assert_eq!(refused(found, by), format!("shop.yaml:{said}"), "{by}");
    }
}

#[test]
fn a_plan_knows_where_each_tensor_and_each_list_of_schemas_stands() {
    let plan = Plan::parse(SOUND, "shop.yaml").expect("a sound file");
    let click = plan.tasks.iter().find(|task| &*task.name == "click").expect("is there");
    let place = |tensor: &str| click.place_of(tensor).map(ToString::to_string);
    assert_eq!(place("country").as_deref(), Some("shop.yaml:20:16"));
    assert_eq!(place("history_mask").as_deref(), Some("shop.yaml:21:52"));
    assert_eq!(place("p").as_deref(), Some("shop.yaml:23:23"));
    assert_eq!(place("logits"), None, "it is another task's");
    assert_eq!(plan.sources[1].schemas_at.to_string(), "shop.yaml:4:57");
}

#[test]
fn without_dead_letters_nothing_starts() {
    let said = refused("dead_letters: { topic: shop.dead-letters }\n", "");
    assert!(said.starts_with("shop.yaml:1:"), "{said}");
    assert!(said.contains("add `dead_letters: { topic: shop.dead-letters }`"), "{said}");
}

#[test]
fn a_route_behind_one_that_takes_everything_is_refused() {
    let said = refused(
        "lane: precision }\ntasks",
        "lane: precision }\n  - { from: orders, when: event.x > 1, skip: never }\ntasks",
    );
    assert!(said.starts_with("shop.yaml:8:") && said.contains("put it before"), "{said}");
}

#[test]
fn only_what_one_rule_on_the_topic_sends_to_one_lane_is_read_directly() {
    let plan = Plan::parse(SOUND, "shop.yaml").expect("a sound file");
    assert!(plan.needs_router());
    assert_eq!(plan.sources[0].direct, None, "its rule looks into the event");
    assert_eq!(plan.sources[1].direct, Some(1));
}

#[test]
fn limits_that_cannot_be_meant_are_refused_with_what_would_be_right() {
    let lane = "max_batch: 8 }";
    for (deadline, says) in [("0s", "100ms to 600s"), ("2h", "100ms to 600s"), ("1000s", "such as `30s`")] {
        let error = refused(lane, &format!("max_batch: 8, run_deadline: {deadline} }}"));
        assert!(error.contains(says) && error.contains("run deadline"), "{error}");
    }
    for parity in ["0", "1.5", "-0.1", ".nan"] {
        let error = refused(lane, &format!("max_batch: 8, parity: {parity} }}"));
        assert!(error.contains("above 0 and at most 1"), "{error}");
    }
    let publish = "    publish:";
    for deadline in ["0s", "1ms", "25h", "soon", "90000s"] {
        let error = refused(publish, &format!("    deadline: {deadline}\n    publish:"));
        assert!(error.contains("no deadline; write 10ms to 86400s"), "{error}");
    }
    let letters = "topic: shop.dead-letters }";
    for (limit, says) in
        [("ratio: 1.5", "0 to 1"), ("consecutive: 0", "at least 1"), ("ratio: .nan", "0 to 1")]
    {
        let error = refused(letters, &format!("topic: shop.dead-letters, limit: {{ {limit} }} }}"));
        assert!(error.contains(says), "{error}");
    }
    let plan = Plan::parse(SOUND, "shop.yaml").expect("a sound file");
    assert_eq!((plan.dead_letter_limit.consecutive.get(), plan.dead_letter_limit.ratio), (1000, 0.5));
}
