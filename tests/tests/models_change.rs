//! Models are changed while events flow: nothing is lost or repeated, each answer is that of the model whose digest it names,
//! and what cannot take over leaves the model that runs in its place. They run on the second device of the list, which is
//! told, and half of their answers are compared with the CPU's.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use twinlane_testkit::{
    Service,
    checker::{Checker, Expected},
    client,
    process::http_get,
    usage::Usage,
    wait,
};
use twinlane_tests::{Event, PARTITIONS, Shop};

const PATIENCE: Duration = Duration::from_secs(30);

const PIPELINE: &str = "
pipeline: {shop}
sources:
  reviews: { topic: {shop}.reviews, format: json }
routes:
  - { from: reviews, task: review, lane: precision }
tasks:
  review:
    models: { full: '{folder}/model.onnx' }
    inputs:
      x: { columns: [a, b, c] }
    outputs:
      stars: { tensor: y, kind: number }
    publish: { topic: {shop}.scores.reviews, format: json, carry: [id, a], partitions: 3 }
lanes:
  precision: { model: full, device: [cuda, cpu], max_batch: 8, partitions: 3, model_threads: 1, parity: 0.5 }
dead_letters: { topic: {shop}.dead-letters, partitions: 3 }
";

/// The model `linear`, a + 2b + 3c + 0.5, with another number at the end.
fn linear(offset: f32) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/inference/tests/models/linear.onnx");
    let mut model = fs::read(file).expect("a model");
    let half = 0.5_f32.to_le_bytes();
    let at = model.windows(4).position(|bytes| bytes == half).expect("it adds one half");
    model[at..at + 4].copy_from_slice(&offset.to_le_bytes());
    model
}

/// A volume as Kubernetes mounts it: the file is a link into `..data`, which is a link to a folder.
struct Volume {
    folder: TempDir,
    version: u32,
}

impl Volume {
    fn new(model: &[u8]) -> Self {
        let mut volume = Self { folder: tempfile::tempdir().expect("a folder"), version: 0 };
        symlink("..data/model.onnx", volume.path("model.onnx")).expect("a link");
        volume.swap_link(model);
        volume
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Another folder, and the link put there at once.
    fn swap_link(&mut self, model: &[u8]) {
        self.version += 1;
        let folder = format!("..version-{}", self.version);
        fs::create_dir(self.path(&folder)).expect("a folder");
        fs::write(self.path(&folder).join("model.onnx"), model).expect("written");
        symlink(&folder, self.path("..next")).expect("a link");
        fs::rename(self.path("..next"), self.path("..data")).expect("renamed");
    }

    /// Another file under the same name.
    fn rename(&mut self, model: &[u8]) {
        let data = self.path("..data");
        fs::write(data.join("next"), model).expect("written");
        fs::rename(data.join("next"), data.join("model.onnx")).expect("renamed");
    }
}

/// Ends the load when the test ends, by a panic too.
struct Load<'a>(&'a AtomicBool);

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    service: Service,
    admin: std::net::SocketAddr,
}

impl Worker {
    fn status(&self) -> Value {
        let text = http_get(self.admin, "/status").expect("answers");
        let body = text.find('{').map_or(&*text, |at| &text[at..]);
        serde_json::from_str::<Value>(body).expect("JSON")["models"].clone()
    }

    fn digest(&self) -> String {
        self.status()["models"][0]["digest"].as_str().expect("a digest").to_owned()
    }

    fn resident(&mut self) -> u64 {
        let id = self.service.process().id();
        Usage::of(id).expect("it runs").resident
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics().contains(line)
    }

    fn metrics(&self) -> String {
        http_get(self.admin, "/metrics").expect("answers")
    }
}

fn review(id: u32) -> Event {
    Event {
        id,
        source: "reviews",
        partition: id as i32 % PARTITIONS,
        key: None,
        value: Some(json!({ "id": id, "a": f64::from(id % 9), "b": 0, "c": 0 }).to_string().into_bytes()),
        expected: Expected::Answer,
        reason: None,
    }
}

#[test]
fn ten_changes_under_load_lose_and_repeat_nothing_and_each_answer_is_its_models() {
    let mut volume = Volume::new(&linear(0.0));
    let shop = Shop::with_pipeline(&PIPELINE.replace("{folder}", &volume.folder.path().to_string_lossy()));
    let mut account = Checker::new();
    let (service, admin) = shop.start_with("precision-worker", 0, "max_model_mib = 1");
    let mut worker = Worker { service, admin };
    let stop = AtomicBool::new(false);
    let mut taken = 0;
    let (mut before, mut after) = (0, 0);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) {
                let events: Vec<_> = (next..next + 40).map(review).collect();
                shop.produce(&events, &mut account);
                next += 40;
                wait::until(Duration::from_millis(50), || stop.load(Ordering::Relaxed).then_some(()));
            }
        });
        let ends = Load(&stop);
        for change in 1..=10_u8 {
            let former = worker.digest();
            let (model, refusal) = match change {
                4 => (b"this is no model".to_vec(), Some("does not load")),
                6 => (vec![0; 2 << 20], Some("`max_model_mib` allows 1")),
                8 => (linear(f32::NAN), Some("gives no number")),
                _ => (linear(f32::from(change)), None),
            };
            if change % 2 == 0 {
                volume.swap_link(&model)
            } else {
                volume.rename(&model)
            }
            if change == 3 {
                let id = worker.service.process().id().to_string();
                let kill = Command::new("kill").args(["-HUP", &id]).status().expect("kill runs");
                assert!(kill.success());
            }
            let came = wait::until(PATIENCE, || {
                let done = match refusal {
                    None => worker.digest() != former && worker.status()["refused_change"].is_null(),
                    Some(says) => {
                        worker.status()["refused_change"].as_str().is_some_and(|why| why.contains(says))
                    }
                };
                done.then_some(())
            });
            came.unwrap_or_else(|| {
                panic!("change {change}: {}\n{}", worker.status(), worker.service.output())
            });
            if refusal.is_some() {
                assert_eq!(worker.digest(), former, "the model that ran goes on");
                let health = http_get(admin, "/health/ready").expect("answers");
                let fell_back = "ready\ntask review runs on cpu, because cuda does not work here";
                assert!(health.contains(fell_back), "{health}");
                assert!(health.contains("\nthe last change of models was refused"), "{health}");
            } else {
                taken += 1;
            }
            // Each answers for a while.
            let answered = shop.committed("scores.reviews");
            wait::until(PATIENCE, || (shop.committed("scores.reviews") > answered + 120).then_some(()));
            match change {
                1 => before = worker.resident(),
                10 => after = worker.resident(),
                _ => {}
            }
        }
        drop(ends);
        load.join().expect("the load does not panic");
    });
    let verdict = shop.verdict(&mut account);
    assert!(verdict.is_clean(), "{verdict:#?}");
    assert!(worker.metric(&format!("twinlane_model_reloads_total{{outcome=\"taken\"}} {taken}")));
    assert!(worker.metric("twinlane_model_reloads_total{outcome=\"refused\"} 3"));
    assert_eq!(worker.status()["models"][0]["fell_back"], true);
    let metrics = worker.metrics();
    let compared = metrics.lines().find_map(|line| {
        line.strip_prefix("twinlane_parity_checked_total{task=\"review\"} ")?.parse::<u32>().ok()
    });
    assert!(compared.is_some_and(|compared| compared > 0), "{metrics}");
    assert!(worker.metric("twinlane_parity_outside_total{task=\"review\"} 0"), "{metrics}");

    // Each digest stands for one model, and within a partition they come one after the other.
    let mut offsets: HashMap<String, f64> = HashMap::new();
    let mut course: BTreeMap<(i64, i64), f64> = BTreeMap::new();
    client::read_to_end(shop.bootstrap(), &shop.topic("scores.reviews"), |record| {
        let answer: Value = serde_json::from_slice(record.value().expect("a value")).expect("JSON");
        let offset = answer["outputs"]["stars"].as_f64().expect("a number")
            - answer["carried"]["a"].as_f64().expect("a");
        let digest = answer["model_digest"].as_str().expect("a digest").to_owned();
        let of_digest = *offsets.entry(digest).or_insert(offset);
        assert!((offset - of_digest).abs() < 1e-6, "two models under one digest: {answer}");
        let place = |name: &str| answer["source"][name].as_i64().expect("a place");
        course.insert((place("partition"), place("offset")), offset);
    })
    .expect("reads");
    let mut models: Vec<f64> = offsets.values().copied().collect();
    models.sort_by(f64::total_cmp);
    assert_eq!(models, [0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0, 10.0], "each took over, and no other");
    let course: Vec<_> = course.into_iter().collect();
    for pair in course.windows(2) {
        let ((from, _), (to, _)) = (pair[0].0, pair[1].0);
        assert!(from != to || pair[0].1 <= pair[1].1, "a model came back: {pair:?}");
    }
    println!("{before} bytes resident after the first change, {after} after the tenth");
    assert!(after as f64 <= before as f64 * 1.05, "{before} bytes before, {after} after");
}

/// SHA-256 of a file, as the pipeline file has it.
fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().expect("sha256sum runs");
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

#[test]
fn a_model_that_the_pipeline_does_not_mean_neither_takes_over_nor_starts() {
    let mut volume = Volume::new(&linear(0.5));
    let (file, meant) = (volume.path("model.onnx"), sha256(&volume.path("model.onnx")));
    let verified = format!("{{ file: '{}', sha256: {meant} }}", file.display());
    let shop = Shop::with_pipeline(&PIPELINE.replace("'{folder}/model.onnx'", &verified));
    let (service, admin) = shop.start_with("precision-worker", 0, "");
    let mut worker = Worker { service, admin };
    let former = worker.digest();
    volume.rename(&linear(1.0));
    let other = sha256(&file);
    let refused = wait::until(PATIENCE, || worker.status()["refused_change"].as_str().map(str::to_owned));
    let refused = refused.unwrap_or_else(|| panic!("{}", worker.service.output()));
    assert!(refused.contains(&meant) && refused.contains(&other), "{refused}");
    assert_eq!(worker.digest(), former, "the model that ran goes on");
    assert_eq!(worker.service.stop(PATIENCE), Some(0), "{}", worker.service.output());

    let (mut again, _) = shop.spawn("precision-worker", 0, shop.bootstrap(), "");
    assert_eq!(again.wait_for_end(PATIENCE).expect("it ends"), Some(2), "{}", again.output());
    let output = again.output();
    let last = output.lines().last().unwrap_or_default();
    assert!(last.contains(&meant) && last.contains(&other), "{output}");
}
