//! A real schema registry beside running services: schemas that only it knows, a registry that is away at start and later,
//! what is registered with it, and one behind TLS or a password.

use std::{net::SocketAddr, path::Path, sync::OnceLock, time::Duration};

use twinlane_testkit::{
    Service,
    checker::{Checker, Expected},
    client,
    process::{free_port, http_get},
    registry::{self, Login, Registry},
    wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop};

const PIPELINE: &str = "
pipeline: {shop}
sources:
  reviews: { topic: {shop}.reviews, format: avro, schemas: [review] }
routes:
  - { from: reviews, task: review, lane: precision }
tasks:
  review:
    models: { full: '{models}/linear.onnx' }
    inputs:
      x: { columns: [a, b, b] }
    outputs:
      stars: { tensor: y, kind: number }
    publish: { topic: {shop}.scores.reviews, format: json, carry: [id], partitions: 3 }
lanes:
  precision: { model: full, device: [cpu], max_batch: 8, partitions: 3, model_threads: 1 }
dead_letters: { topic: {shop}.dead-letters, partitions: 3 }
";

const NARROW: &str = r#"{ "type": "record", "name": "review", "fields": [
  { "name": "id", "type": "int" }, { "name": "a", "type": "int" }, { "name": "b", "type": "double" } ] }"#;
/// Another order, wider types, and a field that the other lacks. It can read the other.
const WIDE: &str = r#"{ "type": "record", "name": "review", "fields": [
  { "name": "b", "type": "double" }, { "name": "c", "type": ["null", "double"], "default": null },
  { "name": "id", "type": "long" }, { "name": "a", "type": "long" } ] }"#;
/// The folder's id of `WIDE`. No registry of a test has so many.
const OF_FOLDER: u32 = 9001;
const LIMIT: Duration = Duration::from_secs(60);

/// For tests that do it no harm.
fn shared() -> &'static Registry {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    SHARED.get_or_init(|| Registry::start().unwrap_or_else(|e| panic!("this test needs a registry: {e}")))
}

/// A schema folder that holds what is read, and settings for it and a registry.
fn with_folder(folder: &Path, registry: &str) -> String {
    std::fs::write(folder.join("review.avsc"), WIDE).expect("written");
    let index =
        format!(r#"[{{ "id": {OF_FOLDER}, "subject": "review", "version": 1, "file": "review.avsc" }}]"#);
    std::fs::write(folder.join("index.json"), index).expect("written");
    format!("schemas = \"{}\"\n[registry]\n{registry}", folder.display())
}

/// Avro's whole numbers: zigzag, seven bits a byte.
fn long(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

/// A datum of `NARROW` or of `WIDE` under a schema id.
fn written(schema: u32, is_wide: bool, id: u32) -> Vec<u8> {
    let (whole, half) = (long(i64::from(id % 100)), 0.5_f64.to_le_bytes().to_vec());
    let id = long(i64::from(id));
    let fields = match is_wide {
        true => vec![half, long(0), id, whole],
        false => vec![id, whole, half],
    };
    [vec![0], schema.to_be_bytes().to_vec(), fields.concat()].concat()
}

fn event(value: Vec<u8>, id: u32, reason: Option<&'static str>) -> Event {
    Event {
        id,
        source: "reviews",
        partition: id as i32 % PARTITIONS,
        key: None,
        value: Some(value),
        expected: if reason.is_some() { Expected::DeadLetter } else { Expected::Answer },
        reason,
    }
}

fn narrow(schema: u32, ids: std::ops::Range<u32>) -> Vec<Event> {
    ids.map(|id| event(written(schema, false, id), id, None)).collect()
}

fn wide(schema: u32, ids: std::ops::Range<u32>) -> Vec<Event> {
    ids.map(|id| event(written(schema, true, id), id, None)).collect()
}

fn metric(admin: SocketAddr, line: &str) -> Option<f64> {
    let page = http_get(admin, "/metrics").expect("metrics");
    page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let found = wait::until(LIMIT, || done().then_some(()));
    assert!(found.is_some(), "not within {LIMIT:?}: {what}");
}

#[test]
fn events_of_schemas_that_only_the_registry_has_are_scored() {
    let (shop, registry) = (Shop::with_pipeline(PIPELINE), shared());
    registry.register("review", WIDE).expect("registered");
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    let settings = format!(
        "schemas = \"{}\"\n[registry]\nurl = \"{}\"\n",
        nowhere.path().join("none").display(),
        registry.url()
    );
    let (worker, admin) = shop.start_with("precision-worker", 0, &settings);
    let mut account = Checker::new();
    // Both were registered under names of their producers' choice, one of them only now.
    let wide_id = registry.register(&format!("{}-value", shop.topic("reviews")), WIDE).expect("registered");
    let narrow_id = registry.register("com.example.review", NARROW).expect("registered");
    shop.produce(&wide(wide_id, 0..60), &mut account);
    shop.produce(&narrow(narrow_id, 60..120), &mut account);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}\n{}", worker.output());
    assert_eq!((verdict.scored, verdict.dead_lettered), (120, 0));
    // Asked once however many records came; what was read at the start needed no lookup.
    let found = metric(admin, "twinlane_schema_registry_lookups_total{result=\"found\"}");
    assert!(found.is_some_and(|found| (1.0..=2.0).contains(&found)), "{found:?}");
    assert_eq!(metric(admin, "twinlane_schema_registry_up"), Some(1.0));
    assert!(metric(admin, "twinlane_schema_registry_lookup_seconds_count").is_some());
}

#[test]
fn a_registry_that_comes_late_is_waited_for_and_says_what_it_knows() {
    let (shop, address) = (Shop::with_pipeline(PIPELINE), free_port().expect("a free port"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = registry::url(address);
    let settings = with_folder(folder.path(), &format!("url = \"{url}\"\n"));
    let (mut worker, admin) = shop.spawn("precision-worker", 0, shop.bootstrap(), &settings);
    let line = worker.wait_for_line("the schema registry is asked again", LIMIT).expect("it is in the log");
    assert!(line.contains("ERROR") && line.contains(&url), "{line}");
    let mut account = Checker::new();
    // What the folder has needs no registry.
    shop.produce(&wide(OF_FOLDER, 0..30), &mut account);
    wait_until("the folder's events are scored", || shop.committed("scores.reviews") == 30);
    let body = http_get(admin, "/health/ready").expect("answers");
    assert!(body.contains(&format!("schema registry {url} has not answered yet")), "{body}");

    let registry = Registry::start_at(address).expect("a registry");
    worker.wait_for_http(admin, "/health/ready", LIMIT).expect("ready");
    let id = registry.register("review", NARROW).expect("registered");
    shop.produce(&narrow(id, 30..60), &mut account);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}\n{}", worker.output());
    assert_eq!(verdict.scored, 60);
}

#[test]
fn while_a_registry_is_away_known_schemas_work_and_an_unknown_one_holds_its_partition_for_its_turn_only() {
    let shop = Shop::with_pipeline(PIPELINE);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut registry = Registry::start().expect("a registry");
    let url = registry.url();
    let settings = with_folder(folder.path(), &format!("url = \"{url}\"\nwait_ms = 8000\n"));
    let (worker, admin) = shop.start_with("precision-worker", 0, &settings);
    let mut account = Checker::new();
    let known = registry.register("review", NARROW).expect("registered");
    shop.produce(&narrow(known, 0..30), &mut account);
    wait_until("the registry's schema is known", || shop.committed("scores.reviews") == 30);

    registry.kill();
    shop.produce(&narrow(known, 30..60), &mut account);
    wait_until("known schemas work", || shop.committed("scores.reviews") == 60);
    // 60 goes to partition 0, and so do 63 to 87 after it; the other partitions do not wait.
    shop.produce(&[event(written(7777, false, 60), 60, Some("unknown_schema"))], &mut account);
    shop.produce(&narrow(known, 61..90), &mut account);
    wait_until("other partitions go on", || shop.committed("scores.reviews") == 80);
    assert_eq!(shop.committed("dead-letters"), 0, "the unknown one has its turn");
    wait_until("its turn ends", || shop.committed("dead-letters") == 1);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}\n{}", worker.output());
    assert_eq!((verdict.scored, verdict.dead_lettered), (89, 1));
    let mut detail = String::new();
    client::read_to_end(shop.bootstrap(), &shop.topic("dead-letters"), |record| {
        detail = String::from_utf8_lossy(record.header("twinlane-dead-detail").unwrap_or_default()).into();
    })
    .expect("reads");
    assert!(detail.contains("schema id 7777") && detail.contains(&url), "{detail}");
    assert_eq!(metric(admin, "twinlane_schema_registry_up"), Some(0.0));
    let failed = metric(admin, "twinlane_schema_registry_lookups_total{result=\"failed\"}");
    assert!(failed.is_some_and(|failed| failed > 0.0), "{failed:?}");
    // It was known, and what it said is still of use.
    let body = http_get(admin, "/health/ready").expect("answers");
    assert!(body.starts_with("ready"), "{body}");
}

#[test]
fn an_id_that_a_registry_does_not_have_is_a_dead_letter_at_once_and_stalls_nothing() {
    let (shop, registry) = (Shop::with_pipeline(PIPELINE), shared());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = with_folder(folder.path(), &format!("url = \"{}\"\nwait_ms = 600000\n", registry.url()));
    let (worker, _) = shop.start_with("precision-worker", 0, &settings);
    let mut account = Checker::new();
    let mixed: Vec<_> = (0..90)
        .map(|id| match id / 3 % 3 {
            0 => event(written(8000 + id / 9, false, id), id, Some("unknown_schema")),
            _ => event(written(OF_FOLDER, true, id), id, None),
        })
        .collect();
    shop.produce(&mixed, &mut account);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}\n{}", worker.output());
    assert_eq!((verdict.scored, verdict.dead_lettered), (60, 30));
}

/// Runs `twinlane schemas register` and gives its exit code and what it said.
fn register(shop: &Shop, words: &[&str]) -> (Option<i32>, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas");
    let folder = folder.to_string_lossy();
    let mut run = shop
        .twinlane_alone(&[&["schemas", "register", "PIPELINE", "--schemas", &folder][..], words].concat());
    let code = run.wait_for_end(LIMIT).expect("it ends");
    (code, run.output())
}

#[test]
fn scored_events_are_registered_and_written_under_the_id_that_they_were_given() {
    let (shop, registry) = (Shop::with_pipeline(PIPELINE), shared());
    let subject = format!("{}-value", shop.topic("scores.reviews"));
    shop.rewrite("format: json, carry", "format: avro, carry");
    shop.rewrite("format: avro, schemas: [review]", "format: json");
    let url = registry.url();
    let (code, said) = register(&shop, &["--registry", &url, "--dry-run"]);
    assert!(code == Some(0) && said.contains("compatible  not registered"), "{said}");
    assert!(registry.get(&format!("/subjects/{subject}/versions")).expect("answers").contains("error_code"));
    let (code, said) = register(&shop, &["--registry", &url]);
    assert!(code == Some(0) && said.contains("registered  id "), "{said}");
    let id: u32 = said
        .split_once("registered  id ")
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .expect("an id");
    let (code, said) = register(&shop, &["--registry", &url]);
    assert!(code == Some(0) && said.contains(&format!("exists      id {id}")), "{said}");

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas");
    let settings = format!("schemas = \"{}\"\n[registry]\nurl = \"{url}\"\n", folder.display());
    let (worker, _) = shop.start_with("precision-worker", 0, &settings);
    shop.flood("reviews", r#"{"id": 1, "a": 2, "b": 0.5}"#, 6);
    wait_until("they are scored", || shop.committed("scores.reviews") == 6);
    client::read_to_end(shop.bootstrap(), &shop.topic("scores.reviews"), |record| {
        let value = record.value().expect("an answer has a value");
        assert_eq!(value[..5], [&[0][..], &id.to_be_bytes()].concat(), "{}", worker.output());
    })
    .expect("reads");
    let tailed = ["tail", "PIPELINE", "--from-beginning", "--json", "-n", "6"];
    let mut tail = shop.twinlane(&[&tailed[..], &["--schemas", &folder.to_string_lossy()]].concat());
    assert_eq!(tail.wait_for_end(LIMIT).expect("it ends"), Some(0), "{}", tail.output());
    assert!(
        tail.output().contains("\"stars\"") && !tail.output().contains("unreadable"),
        "{}",
        tail.output()
    );
}

#[test]
fn a_schema_that_the_registry_does_not_allow_is_refused_in_its_words_and_nothing_is_registered() {
    let (shop, registry) = (Shop::with_pipeline(PIPELINE), shared());
    let subject = format!("{}-value", shop.topic("scores.reviews"));
    shop.rewrite("format: json, carry", "format: avro, carry");
    let other = r#"{ "type": "record", "name": "ScoredEvent", "namespace": "twinlane", "fields": [
      { "name": "event_id", "type": "int" } ] }"#;
    registry.register(&subject, other).expect("registered");
    registry.guard(&subject).expect("guarded");
    let folder = tempfile::tempdir().expect("a temporary folder");
    with_folder(folder.path(), "");
    let folder = folder.path().to_string_lossy();
    let words = ["--registry", &registry.url(), "--schemas", &folder];
    let mut run = shop.twinlane_alone(&[&["schemas", "register", "PIPELINE"][..], &words].concat());
    let code = run.wait_for_end(LIMIT).expect("it ends");
    let said = run.output();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("{subject}: ")) && said.contains("nothing was registered"), "{said}");
    assert_eq!(registry.get(&format!("/subjects/{subject}/versions")).expect("answers").trim(), "[1]");
}

/// Starts a worker whose settings name a registry, and gives the first line of its log about that.
fn refused(shop: &Shop, settings: &str) -> (Service, String) {
    let (mut worker, _) = shop.spawn("precision-worker", 0, shop.bootstrap(), settings);
    let line = worker.wait_for_line("the schema registry is asked again", LIMIT).expect("it is in the log");
    (worker, line)
}

#[test]
fn a_registry_behind_tls_is_believed_only_with_its_authority() {
    let (shop, registry) = (Shop::with_pipeline(PIPELINE), shared());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("url = \"{}\"\n", registry.tls_url());
    let (mut stranger, line) = refused(&shop, &with_folder(folder.path(), &url));
    assert!(line.contains("certificate"), "{line}");
    stranger.kill();

    let authority = format!("{url}ca_file = \"{}\"\n", registry.authority().display());
    let (worker, _) = shop.start_with("precision-worker", 0, &with_folder(folder.path(), &authority));
    let id = registry.register("review", NARROW).expect("registered");
    let mut account = Checker::new();
    shop.produce(&narrow(id, 0..30), &mut account);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}\n{}", worker.output());
}

#[test]
fn a_wrong_password_is_one_sentence_without_it_and_the_right_one_opens() {
    let (shop, registry) = (Shop::with_pipeline(PIPELINE), shared());
    let folder = tempfile::tempdir().expect("a temporary folder");
    // `reader:open sesame`
    let login = Login::start(registry.address(), "Basic cmVhZGVyOm9wZW4gc2VzYW1l").expect("a login");
    let secret = folder.path().join("password");
    let settings = |password: &str| {
        std::fs::write(&secret, format!("{password}\n")).expect("written");
        let url = registry::url(login.address());
        let registry =
            format!("url = \"{url}\"\nuser = \"reader\"\npassword_file = \"{}\"\n", secret.display());
        with_folder(folder.path(), &registry)
    };
    let (mut stranger, line) = refused(&shop, &settings("shut-sesame"));
    assert!(line.contains("refuses access (status 401): no such user and password"), "{line}");
    assert!(!stranger.output().contains("shut-sesame"), "{}", stranger.output());
    stranger.kill();

    let (worker, _) = shop.start_with("precision-worker", 0, &settings("open sesame"));
    let id = registry.register("review", NARROW).expect("registered");
    let mut account = Checker::new();
    shop.produce(&narrow(id, 0..30), &mut account);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}\n{}", worker.output());
}
