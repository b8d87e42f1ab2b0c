//! Dashboards, alerts and the page about metrics, held against running services and a real Prometheus that scrapes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use twinlane_testkit::{
    Service,
    process::{ServiceOptions, free_port, http_get},
    wait,
};
use twinlane_tests::Shop;

const LIMIT: Duration = Duration::from_secs(60);
const SERVICES: [&str; 3] = ["router", "precision-worker", "throughput-worker"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository")
}

/// Runs a script of `deploy/observability` and gives what it printed.
fn script(name: &str) -> String {
    let path = repository().join("deploy/observability").join(name);
    let done = Command::new("bash").arg(path).output().expect("there is a bash");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(done.status.success(), "{name}: {}\n{}", said(&done.stdout), said(&done.stderr));
    said(&done.stdout)
}

#[test]
fn every_alert_fires_for_its_reason_and_has_a_runbook() {
    let said = script("check.sh");
    assert!(said.contains("SUCCESS") && said.contains("dashboards"), "{said}");
}

#[test]
fn every_panel_shows_something_and_every_metric_is_on_its_page() {
    let shop = Shop::open();
    // What is held against the CPU shows itself where a lane asks for it.
    shop.rewrite(
        "precision: { model: full, device: [cpu],",
        "precision: { model: full, device: [cpu], parity: 0.5,",
    );
    let services = SERVICES.map(|name| shop.start_with(name, 0, ""));
    let prometheus = Prometheus::scraping(&services.each_ref().map(|(_, admin)| *admin));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                trade(&shop);
                wait::pause_for(Duration::from_millis(100));
            }
        });
        let mut waiting = panels();
        assert!(waiting.len() > 60, "{} queries", waiting.len());
        let found = wait::until(LIMIT, || {
            waiting.retain(|_, query| !prometheus.has(query));
            waiting.is_empty().then_some(())
        });
        stop.store(true, Ordering::Release);
        assert!(found.is_some(), "these panels are empty:\n{waiting:#?}");
    });
    prometheus.check_rules();
    // Every event is answered, so what is left is the marker that ends a lane's topic.
    for (query, what) in [
        (r#"max(twinlane_lag_records{stage=~"router.*"}) == 0"#, "the router"),
        ("max(twinlane_lag_records) <= 1", "a lane"),
    ] {
        let done = wait::until(LIMIT, || prometheus.has(query).then_some(()));
        assert!(done.is_some(), "the lag of {what} stays: {}", prometheus.ask("twinlane_lag_records"));
    }
    check_names(&services.each_ref().map(|(_, admin)| *admin));
    for (_, admin) in &services {
        check_status(*admin);
    }
}

/// The status page says what runs and how far it is.
fn check_status(admin: SocketAddr) {
    let page = || serde_json::from_str::<Value>(&http_get(admin, "/status").expect("answers")).expect("JSON");
    let is_done = |page: &Value| {
        let stages = page["stages"].as_array().expect("stages").iter();
        let mut positions = stages.flat_map(|stage| stage["positions"].as_array().expect("positions"));
        positions.all(|position| position["lag"].as_i64() <= Some(1) && position["committed"].is_i64())
    };
    let page = wait::until(LIMIT, || Some(page()).filter(is_done)).expect("all is read");
    let plan = page["plan"].as_array().expect("lines");
    assert!(plan[0].as_str().is_some_and(|line| line.starts_with("pipeline shop-")), "{page}");
    for stage in page["stages"].as_array().expect("stages") {
        assert_eq!(stage["brokers_answer"], true, "{page}");
        let partitions = stage["partitions"].as_u64().expect("a number");
        assert_eq!(stage["positions"].as_array().map(|all| all.len() as u64), Some(partitions), "{page}");
        assert!(partitions >= 3, "{page}");
    }
}

/// Some events of each kind, some of which become dead letters.
fn trade(shop: &Shop) {
    let steps = r#"{"amount":1.5,"age_s":3}"#;
    for recent in ["", steps, &[steps; 5].join(",")] {
        shop.flood("events", &format!(r#"{{"kind":"order","id":1,"recent":[{recent}]}}"#), 6);
    }
    shop.flood("events", r#"{"kind":"click","id":2,"a":1,"b":1.5,"c":-2}"#, 12);
    shop.flood("events", r#"{"kind":"click","id":3,"a":1}"#, 3);
    shop.flood("reviews", r#"{"id":4,"stars":5,"helpful":true,"at":"2026-01-31T12:00:00Z"}"#, 6);
}

struct Prometheus {
    process: Service,
    at: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// With the project's rules, and ports of this test in the place of names.
    fn scraping(admins: &[SocketAddr; 3]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rules = repository().join("deploy/observability/prometheus/rules/*.yml");
        let targets: Vec<_> = SERVICES
            .iter()
            .zip(admins)
            .map(|(service, admin)| {
                format!("      - {{ targets: ['{admin}'], labels: {{ service: {service} }} }}\n")
            })
            .collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\nscrape_configs:\n  \
             - job_name: twinlane\n    static_configs:\n{}",
            rules.display(),
            targets.concat()
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("written");
        let at = free_port().expect("a free port");
        let options = ServiceOptions {
            name: "prometheus".into(),
            program: PathBuf::from(script("tools.sh")).join("prometheus"),
            arguments: vec![
                format!("--config.file={}", file.display()),
                format!("--storage.tsdb.path={}", folder.path().join("data").display()),
                format!("--web.listen-address={at}"),
            ],
            logs: folder.path().to_owned(),
            ..ServiceOptions::default()
        };
        let mut process = Service::spawn(&options).expect("spawned");
        process.wait_for_http(at, "/-/ready", LIMIT).unwrap_or_else(|e| panic!("{e}\n{}", process.output()));
        Self { process, at, _folder: folder }
    }

    fn get(&self, path: &str) -> Value {
        let answer = http_get(self.at, path).expect("Prometheus answers");
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}\n{}", self.process.output()))
    }

    /// What a query finds now.
    fn ask(&self, query: &str) -> Value {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut answer = self.get(&format!("/api/v1/query?query={encoded}"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].take()
    }

    /// Whether it finds a number: a quantile of nothing is NaN.
    fn has(&self, query: &str) -> bool {
        let found = self.ask(query);
        let numbers = found.as_array().into_iter().flatten().filter_map(|one| one["value"][1].as_str());
        numbers.filter_map(|number| number.parse::<f64>().ok()).any(f64::is_finite)
    }

    fn check_rules(&self) {
        let answer = self.get("/api/v1/rules");
        let groups = answer["data"]["groups"].as_array().expect("groups");
        let rules: Vec<_> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        assert!(rules.len() >= 15, "{answer}");
        for rule in rules {
            assert_eq!(rule["health"], "ok", "{rule}");
            assert_ne!(rule["state"], "firing", "{rule}");
        }
        assert!(self.has("stage:twinlane_event_latency_seconds:p99_5m"));
    }
}

/// Every query of every dashboard, by where it stands, once for each lane where it has one. No machine of the tests has a
/// GPU, so the dashboard about it is asked for the CPU: the same queries, with the other value in its one variable.
fn panels() -> BTreeMap<String, String> {
    let mut queries = BTreeMap::new();
    for name in ["overview", "lane", "delivery", "gpu"] {
        let file = repository().join(format!("deploy/observability/grafana/dashboards/{name}.json"));
        let board: Value = serde_json::from_str(&fs::read_to_string(file).expect("there")).expect("JSON");
        for panel in board["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row")
        {
            for target in panel["targets"].as_array().expect("a panel has queries") {
                for lane in ["precision", "throughput"] {
                    let query = target["expr"].as_str().expect("a query").replace("$__rate_interval", "30s");
                    let query =
                        query.replace("$lane", lane).replace("$job", "twinlane").replace("$device", "cpu");
                    let query = ["$stage", "$instance", "$task"]
                        .iter()
                        .fold(query, |query, any| query.replace(any, ".*"));
                    assert!(!query.contains('$'), "an unknown variable: {query}");
                    let at = format!("{name}: {} {} ({lane})", panel["title"], target["refId"]);
                    queries.insert(at, query);
                }
            }
        }
    }
    queries
}

/// What services serve is what `docs/metrics.md` lists, neither more nor less.
fn check_names(admins: &[SocketAddr; 3]) {
    let page = fs::read_to_string(repository().join("docs/metrics.md")).expect("there");
    let listed = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    // Only a service with a schema registry serves these; the tests of that see them.
    let listed = listed.filter(|name| !name.starts_with("twinlane_schema_registry_"));
    let listed: BTreeSet<_> = listed.map(str::to_owned).collect();
    let mut served = BTreeSet::new();
    for &admin in admins {
        let metrics = http_get(admin, "/metrics").expect("metrics");
        served.extend(
            metrics
                .lines()
                .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)),
        );
        for line in metrics.lines().filter(|line| line.starts_with("# TYPE ")) {
            assert!(!line.ends_with(" summary"), "replicas' quantiles cannot be added up: {line}");
            let name = line.split(' ').nth(2).expect("a name");
            assert!(metrics.contains(&format!("# HELP {name} ")), "{name} has no help text");
        }
    }
    assert_eq!(served, listed);
}
