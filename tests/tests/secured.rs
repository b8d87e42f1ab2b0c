//! Brokers that ask who one is: every way to sign in that the documentation shows scores events with the ACLs that it lists,
//! and whatever is wrong ends with exit code 3 and a sentence that says what, and no secret.

use std::{fs, path::PathBuf, sync::OnceLock, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use twinlane_testkit::{
    Broker, BrokerOptions, Listener, Service,
    acl::Acl,
    certificates::{Authority, STORE_PASSWORD},
    checker::{Checker, Expected},
    process::free_port,
    wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop};

const PAGE: &str = include_str!("../../docs/secured-cluster.md");
const PASSWORD: &str = "hunter2-is-secret";
const WRONG: &str = "hunter3-is-secret";
const LIMIT: Duration = Duration::from_secs(60);

const PIPELINE: &str = "
pipeline: {shop}
sources:
  events: { topic: {shop}.events, format: json }
routes:
  - { from: events, when: 'event.kind == \"order\"', task: order-risk, lane: precision }
  - { from: events, task: click, lane: throughput }
tasks:
  order-risk:
    models: { full: '{models}/linear.onnx' }
    inputs:
      x: { columns: [a, b, c] }
    outputs:
      risk: { tensor: y, kind: number }
    publish: { topic: {shop}.scores.orders, format: json, carry: [id], partitions: 3 }
  click:
    models: { distilled: '{models}/linear.onnx' }
    inputs:
      x: { columns: [a, b, c] }
    outputs:
      kind: { tensor: y, kind: number }
    publish: { topic: {shop}.scores.clicks, format: json, carry: [id], partitions: 3 }
lanes:
  precision: { model: full, device: [cpu], max_batch: 8, partitions: 3, model_threads: 1 }
  throughput: { model: distilled, device: [cpu], max_batch: 8, partitions: 3, model_threads: 1 }
dead_letters: { topic: {shop}.dead-letters, partitions: 3 }
";

/// Who signs in.
const ROUTER: &str = "router";
const PRECISION: &str = "precision";
/// Each may do what the precision worker may, but for one thing.
const LACKS: [(&str, &str, &str); 4] = [
    ("lacks-group", "group", ".precision"),
    ("lacks-read", "topic", ".precision."),
    ("lacks-write", "topic", ".scores.orders"),
    ("lacks-id", "transactional-id", ".precision."),
];

/// Places of the listeners.
const SASL: usize = 0;
const MUTUAL: usize = 1;
const EXPIRED: usize = 2;

struct Cluster {
    broker: Broker,
    authority: Authority,
    /// Passwords, each in a file.
    folder: TempDir,
}

/// One for all tests of this file: it takes some seconds to come up.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let authority = Authority::new().expect("an authority");
        let store = |name, start, days| authority.sign(name, start, days).expect("a certificate");
        let (broker, expired) = (store("broker", "-1d", 30), store("expired", "-30d", 10));
        store(PRECISION, "-1d", 30);
        let folder = tempfile::tempdir().expect("a folder");
        for (file, password) in [("right", PASSWORD), ("wrong", WRONG), ("store", STORE_PASSWORD)] {
            fs::write(folder.path().join(file), format!("{password}\n")).expect("written");
        }
        let tls = |store: &PathBuf| {
            vec![
                ("ssl.keystore.type".to_owned(), "PKCS12".to_owned()),
                ("ssl.keystore.location".into(), store.display().to_string()),
                ("ssl.keystore.password".into(), STORE_PASSWORD.into()),
            ]
        };
        let users: Vec<_> = [ROUTER, PRECISION].into_iter().chain(LACKS.map(|(name, ..)| name)).collect();
        let sasl = |store: &PathBuf| {
            let login = |package: &str, options: &str| {
                format!("org.apache.kafka.common.security.{package}LoginModule required {options};")
            };
            let plain: String = users.iter().map(|user| format!(" user_{user}=\"{PASSWORD}\"")).collect();
            let scram = login("scram.Scram", "");
            let mut properties = tls(store);
            properties.extend(
                [
                    ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".to_owned()),
                    ("plain.sasl.jaas.config", login("plain.Plain", &plain)),
                    ("scram-sha-256.sasl.jaas.config", scram.clone()),
                    ("scram-sha-512.sasl.jaas.config", scram),
                    (
                        "oauthbearer.sasl.jaas.config",
                        login("oauthbearer.OAuthBearer", "unsecuredLoginStringClaim_sub=\"broker\""),
                    ),
                ]
                .map(|(name, value)| (name.to_owned(), value)),
            );
            properties
        };
        let mut mutual = tls(&broker);
        mutual.extend([
            ("ssl.client.auth".to_owned(), "required".to_owned()),
            ("ssl.truststore.type".into(), "PEM".into()),
            ("ssl.truststore.location".into(), authority.pem().display().to_string()),
            ("ssl.principal.mapping.rules".into(), "RULE:^CN=(.*?)$/$1/".into()),
        ]);
        let listener = |name, protocol, properties| Listener { name, protocol, properties };
        let options = BrokerOptions {
            properties: [
                ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
                // Whoever comes by the plain listener: this test, the broker itself and its controller.
                ("super.users", "User:ANONYMOUS"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            listeners: vec![
                listener("SECURED", "SASL_SSL", sasl(&broker)),
                listener("MUTUAL", "SSL", mutual),
                listener("EXPIRED", "SASL_SSL", sasl(&expired)),
            ],
            scram_users: users.iter().map(|user| ((*user).to_owned(), PASSWORD.to_owned())).collect(),
            ..BrokerOptions::default()
        };
        Cluster { broker: Broker::start_own(&options).expect("a secured Kafka"), authority, folder }
    })
}

/// The settings that the documentation shows below a heading, with the paths of this test.
fn documented(heading: &str, user: &str, password: &str) -> String {
    let cluster = cluster();
    let section =
        PAGE.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
    let toml = section.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let pem = cluster.authority.pem();
    let replaced = [
        ("/etc/twinlane/kafka-tls/ca.crt", pem.display().to_string()),
        (
            "/etc/twinlane/kafka-tls/client.p12",
            pem.with_file_name(format!("{user}.p12")).display().to_string(),
        ),
        ("/etc/twinlane/secrets/password", cluster.folder.path().join(password).display().to_string()),
        ("\"twinlane\"", format!("\"{user}\"")),
        ("principal=twinlane", format!("principal={user}")),
    ];
    let toml = toml.unwrap_or_else(|| panic!("{heading} shows no settings")).to_owned();
    let toml = replaced.iter().fold(toml, |toml, (shown, here)| toml.replace(shown, here));
    format!("create_topics = false\n{toml}")
}

/// A shop whose topics are there, and in which everybody may do what the documentation says.
fn shop() -> Shop {
    let shop = Shop::at(cluster().broker.bootstrap(), PIPELINE);
    let mut made = shop.twinlane(&["topics", "create", "PIPELINE"]);
    assert_eq!(made.wait_for_end(LIMIT).expect("it ends"), Some(0), "{}", made.output());
    let lines = PAGE.lines().filter(|line| line.starts_with("$acl "));
    let listed: Vec<_> = lines.flat_map(Acl::of_command).map(|acl| here(&shop, acl)).collect();
    assert!(listed.len() > 10, "the page lists {} ACLs", listed.len());
    let mut given = listed.clone();
    for (user, resource, end) in LACKS {
        let of_worker = listed.iter().filter(|acl| acl.principal == format!("User:{PRECISION}"));
        let others = of_worker.filter(|acl| acl.resource != resource || !acl.name.ends_with(end));
        given.extend(others.map(|acl| Acl { principal: format!("User:{user}"), ..acl.clone() }));
        // Whoever may not read or write may still look, or else the topic would not be there for it.
        if resource == "topic" {
            given.extend(["Describe", "DescribeConfigs"].map(|operation| Acl {
                principal: format!("User:{user}"),
                resource: "topic".into(),
                name: shop.topic(end.trim_start_matches('.')),
                prefixed: end.ends_with('.'),
                operation: operation.into(),
            }));
        }
    }
    cluster().broker.allow(&given).expect("the broker takes them");
    shop
}

/// The page is about the pipeline `commerce`.
fn here(shop: &Shop, acl: Acl) -> Acl {
    let name = match acl.name.strip_prefix("commerce.").or_else(|| acl.name.strip_prefix("shop.")) {
        Some(rest) => shop.topic(rest),
        None => shop.topic(&acl.name),
    };
    Acl { name, ..acl }
}

fn orders(numbers: std::ops::Range<u32>) -> Vec<Event> {
    let order = |number: u32| Event {
        id: number,
        source: "events",
        partition: number as i32 % PARTITIONS,
        key: None,
        value: Some(
            json!({ "kind": "order", "id": number, "a": 1, "b": 2, "c": 3 }).to_string().into_bytes(),
        ),
        expected: Expected::Answer,
        reason: None,
    };
    numbers.map(order).collect()
}

/// Starts a service at a listener, and waits until it is ready.
fn start(shop: &Shop, service: &str, listener: usize, settings: &str) -> Service {
    let (mut service, admin) = shop.spawn(service, 0, cluster().broker.listener(listener), settings);
    service
        .wait_for_http(admin, "/health/ready", LIMIT)
        .unwrap_or_else(|e| panic!("{e}\n{}", service.output()));
    service
}

fn assert_no_secret(output: &str) {
    for secret in [PASSWORD, WRONG, STORE_PASSWORD] {
        assert!(!output.contains(secret), "a secret in\n{output}");
    }
}

/// Waits until it ends with this code, and its last line is one sentence that says so.
fn assert_ends(mut service: Service, code: i32, says: &[&str]) {
    let ended = service.wait_for_end(LIMIT).unwrap_or_else(|error| panic!("{error}"));
    let output = service.output();
    assert_eq!(ended, Some(code), "{output}");
    let last = output.lines().last().unwrap_or_default();
    assert!(last.starts_with("precision-worker: "), "{output}");
    for word in says {
        assert!(last.contains(word), "no {word} in {last}");
    }
    assert_no_secret(&output);
}

#[test]
fn every_way_to_sign_in_scores_events_with_the_acls_that_are_documented() {
    let shop = shop();
    let mut account = Checker::new();
    let router = start(&shop, "router", SASL, &documented("SCRAM", ROUTER, "right"));
    let weaker = documented("SCRAM", PRECISION, "right").replace("SCRAM-SHA-512", "SCRAM-SHA-256");
    let ways = [
        (SASL, documented("SCRAM", PRECISION, "right")),
        (SASL, weaker),
        (SASL, documented("PLAIN", PRECISION, "right")),
        (SASL, documented("OAUTHBEARER", PRECISION, "right")),
        (MUTUAL, documented("A certificate of its own (mTLS)", PRECISION, "store")),
    ];
    let mut services = vec![router];
    for (number, (listener, settings)) in (0..).zip(&ways) {
        let mut worker = start(&shop, "precision-worker", *listener, settings);
        shop.produce(&orders(number * 30..(number + 1) * 30), &mut account);
        let all = (number as usize + 1) * 30;
        let answered = wait::until(LIMIT, || (shop.committed("scores.orders") >= all).then_some(()));
        assert!(answered.is_some(), "{settings}\n{}", worker.output());
        assert_eq!(worker.stop(LIMIT), Some(0), "{}", worker.output());
        services.push(worker);
    }
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(services[0].stop(LIMIT), Some(0), "{}", services[0].output());
    for service in &services {
        assert_no_secret(&service.output());
        assert!(!service.output().contains("may not read the topic's settings"), "{}", service.output());
    }
}

#[test]
fn the_command_signs_in_as_services_do() {
    let shop = shop();
    let settings = cluster().folder.path().join("command.toml");
    fs::write(&settings, documented("SCRAM", PRECISION, "right")).expect("written");
    let words = ["topics", "create", "--settings", &settings.to_string_lossy(), "PIPELINE"];
    let mut created = shop.twinlane_at(cluster().broker.listener(SASL), &words);
    // It sees its lane's topics, and may create none of the others.
    assert_eq!(created.wait_for_end(LIMIT).expect("it ends"), Some(3), "{}", created.output());
    assert!(created.output().contains("not authorised: create topic"), "{}", created.output());
    assert_no_secret(&created.output());
}

#[test]
fn whoever_is_not_let_in_ends_with_a_sentence_that_says_why() {
    let shop = shop();
    let at = |listener: usize| cluster().broker.listener(listener);
    let right = documented("SCRAM", PRECISION, "right");
    let known = format!("\"ssl.ca.location\" = \"{}\"\n", cluster().authority.pem().display());
    let unknown = right.replace(&known, "");
    assert_ne!(unknown, right);
    let mechanism = right.replace("SCRAM-SHA-512", "GSSAPI");
    let nobody = free_port().expect("a free port").to_string();
    let cases = [
        (
            at(SASL),
            documented("SCRAM", PRECISION, "wrong"),
            3,
            &["refused to sign us in", "sasl.mechanism"][..],
        ),
        (at(SASL), documented("PLAIN", PRECISION, "wrong"), 3, &["refused to sign us in"]),
        (at(EXPIRED), right.clone(), 3, &["certificate has expired", "renew it"]),
        (at(SASL), unknown, 3, &["authority that is not trusted here", "ssl.ca.location"]),
        (at(MUTUAL), right.replace("SASL_SSL", "SSL"), 3, &["certificate of this client"]),
        (at(SASL), mechanism, 2, &["settings"]),
        (at(SASL), right.replace("/right", "/nowhere"), 2, &["sasl.password", "kafka.secrets"]),
        // Brokers that are away are no refusal.
        (&nobody, right.clone(), 7, &["no Kafka broker answered", "is the cluster up"]),
        (cluster().broker.bootstrap(), right.clone(), 7, &["security.protocol"]),
    ];
    let started: Vec<_> = (0..)
        .zip(&cases)
        .map(|(ordinal, (brokers, settings, ..))| {
            shop.spawn("precision-worker", ordinal, brokers, settings).0
        })
        .collect();
    for (service, (_, _, code, says)) in started.into_iter().zip(&cases) {
        assert_ends(service, *code, says);
    }
}

#[test]
fn an_acl_that_is_missing_ends_with_a_sentence_that_names_what_it_is_for() {
    let shop = shop();
    // What a record needs shows itself with the first one.
    let mut router = start(&shop, "router", SASL, &documented("SCRAM", ROUTER, "right"));
    shop.produce(&orders(0..9), &mut Checker::new());
    let named = [
        ("lacks-group", format!("group `{}`", shop.topic("precision"))),
        ("lacks-read", format!("read topic `{}`", shop.topic("precision.order-risk"))),
        ("lacks-write", format!("write to topic `{}`", shop.topic("scores.orders"))),
        ("lacks-id", format!("transactional id `{}.", shop.topic("precision"))),
        // Known to the brokers, and allowed nothing.
        ("router", format!("topic `{}`", shop.topic("scores.orders"))),
    ];
    // One after the other: they are members of one group.
    for (user, what) in named {
        let settings = documented("SCRAM", user, "right");
        let (service, _) = shop.spawn("precision-worker", 0, cluster().broker.listener(SASL), &settings);
        assert_ends(service, 3, &["not authorised", &what, "grant the principal access"]);
    }
    assert_eq!(router.stop(LIMIT), Some(0), "{}", router.output());
}

#[test]
fn settings_are_shown_without_their_secrets() {
    let shop = shop();
    let settings = format!(
        "{}[kafka.producer]\n\"ssl.key.password\" = \"{PASSWORD}\"\n",
        documented("SCRAM", PRECISION, "right")
    );
    let mut shown = shop.dump_config("precision-worker", &settings);
    assert_eq!(shown.wait_for_end(LIMIT).expect("it ends"), Some(0), "{}", shown.output());
    let output = shown.output();
    assert_no_secret(&output);
    for line in [
        "\"sasl.mechanism\" = \"SCRAM-SHA-512\"",
        "\"ssl.key.password\" = \"<redacted>\"",
        &format!("\"sasl.password\" = \"{}\"", cluster().folder.path().join("right").display()),
        "ordinal = 0",
    ] {
        assert!(output.contains(line), "no {line} in\n{output}");
    }
}

#[test]
fn brokers_that_go_away_are_no_refusal() {
    let options = BrokerOptions {
        listeners: vec![Listener {
            name: "SECURED",
            protocol: "SASL_PLAINTEXT",
            properties: vec![
                ("sasl.enabled.mechanisms".into(), "PLAIN".into()),
                (
                    "plain.sasl.jaas.config".into(),
                    format!(
                        "org.apache.kafka.common.security.plain.PlainLoginModule required user_{PRECISION}=\"{PASSWORD}\";"
                    ),
                ),
            ],
        }],
        ..BrokerOptions::default()
    };
    let mut broker = Broker::start_own(&options).expect("a Kafka of its own");
    let shop = Shop::at(broker.bootstrap(), PIPELINE);
    let settings = documented("PLAIN", PRECISION, "right").replace("SASL_SSL", "SASL_PLAINTEXT");
    let settings = settings.replace("create_topics = false", "");
    let (mut worker, admin) = shop.spawn("precision-worker", 0, broker.listener(0), &settings);
    worker
        .wait_for_http(admin, "/health/ready", LIMIT)
        .unwrap_or_else(|e| panic!("{e}\n{}", worker.output()));
    let mut router = shop.start("router", 0);
    broker.kill_node(0);
    broker.restart_node(0).expect("it comes back");
    let mut account = Checker::new();
    shop.produce(&orders(0..30), &mut account);
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:?}\n{}", worker.output());
    assert_eq!(router.stop(LIMIT), Some(0), "{}", router.output());
    assert_eq!(worker.stop(LIMIT), Some(0), "{}", worker.output());
}
