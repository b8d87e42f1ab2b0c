//! What a service is given to do: the events, and a pipeline file made from a reference pipeline, so that tensors and
//! models are the same and cannot drift apart.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use twinlane_replay::{ReferenceEvent, Task, reference_events};

/// The reference pipelines' folders.
const COMMERCE: &str = "pipelines/commerce";
const REVIEWS: &str = "pipelines/reviews";
/// Its texts, as `cargo xtask models reviews` writes them.
const TEXTS: &str = "pipelines/reviews/models/events.jsonl";
/// The ids of the reviews among them begin so; the others are posts.
const REVIEW: &str = "amazon-";
/// A model of one MatMul.
const TRIVIAL: &str = "crates/inference/tests/models/linear.onnx";
/// Partitions of every topic, those of the lanes and outputs included.
pub(crate) const PARTITIONS: i32 = 3;
/// The topic with the events.
pub(crate) const SOURCE: &str = "load.events";
/// From this amount on an order is a large one. About every tenth is.
const LARGE: f64 = 90_000.0;
/// The pipeline's name, with which the topics between router and workers begin.
const PIPELINE: &str = "load";

/// An event of a workload.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Which of the workload's [kinds](Workload::kinds) it is.
    pub(crate) kind: usize,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    /// Milliseconds since the epoch in its data's own time; texts have none.
    pub(crate) happened_at: Option<i64>,
}

/// A lane, as answers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Precision,
    Throughput,
}

impl Lane {
    /// What a header says.
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"precision" => Some(Self::Precision),
            b"throughput" => Some(Self::Throughput),
            _ => None,
        }
    }
}

/// Whether a workload made this topic.
pub(crate) fn is_ours(topic: &str) -> bool {
    topic.strip_prefix(PIPELINE).is_some_and(|rest| rest.starts_with('.'))
}

/// Which events, and which tasks they lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// Card orders, read by the precision worker itself; the full model.
    Orders,
    /// Purchases, read by the throughput worker itself; the distilled model.
    Purchases,
    /// Purchases, read by the precision worker itself; a model of one MatMul.
    Trivial,
    /// Texts, read by the throughput worker itself; the distilled model, in int8.
    Posts,
    /// Texts, read by the precision worker itself; the full model.
    Reviews,
    /// Orders and purchases mixed, and a rule for each that looks at the schema alone; both in one lane.
    RoutedBySchema,
    /// The same, and the rules look at fields of the event.
    RoutedByFields,
    /// Orders and purchases mixed, for two lanes: the full model and the distilled one.
    RoutedToTwoLanes,
    /// Orders and purchases mixed, in one lane with the full models.
    RoutedToOneLane,
    /// Orders and purchases mixed, in one lane with the full models, whose worker reads them itself.
    OneLaneDirect,
    /// Orders and purchases mixed, for two lanes; the precision worker reads them itself, the router forwards the others.
    TwoLanesOrdersDirect,
    /// Orders and purchases mixed, for two lanes whose workers both read them themselves.
    TwoLanesDirect,
    /// Large and small orders mixed, all of them for the full model of one lane.
    LargeAndSmallInOneLane,
    /// Large and small orders mixed, for two lanes: the large ones for the full model, the small ones for the distilled.
    LargeAndSmallInTwoLanes,
    /// Texts, reviews and posts mixed, all of them for the full model of one lane.
    ReviewsAndPostsInOneLane,
    /// Texts for two lanes: reviews for the full model, posts for the distilled.
    ReviewsAndPostsInTwoLanes,
}

impl Workload {
    /// The task whose model is the limit, and its variant; none where only the router works.
    pub(crate) fn model(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Orders => Some(("order-risk", "full")),
            Self::Purchases => Some(("repeat-purchase", "distilled")),
            Self::Trivial => Some(("trivial", "full")),
            Self::Posts => Some(("sentiment", "distilled")),
            Self::Reviews => Some(("sentiment", "full")),
            _ => None,
        }
    }

    /// Bytes of that model's file.
    pub(crate) fn model_bytes(self, pipeline: &Path) -> Result<Option<u64>> {
        let Some((task, variant)) = self.model() else { return Ok(None) };
        let pipeline = read_pipeline(pipeline)?;
        let model = pipeline["tasks"][task]["models"][variant].as_str().context("the task has this model")?;
        let model = std::fs::metadata(model).with_context(|| format!("looking at {model}"))?;
        Ok(Some(model.len()))
    }

    /// Lets a pipeline file name a copy of its model, and makes the copy.
    pub(crate) fn replace_model(self, pipeline: &Path, copy: &Path) -> Result<()> {
        let (task, variant) = self.model().context("a workload with one model is needed")?;
        let mut file = read_pipeline(pipeline)?;
        let model = &mut file["tasks"][task]["models"][variant];
        let from = model.as_str().context("the task has this model")?;
        std::fs::copy(from, copy).with_context(|| format!("copying {from}"))?;
        *model = copy.to_string_lossy().into();
        write_pipeline(pipeline, &file)
    }

    /// The service that works.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Orders | Self::Trivial | Self::Reviews | Self::OneLaneDirect => "precision-worker",
            Self::Purchases | Self::Posts => "throughput-worker",
            _ => "router",
        }
    }

    /// The topics that it writes, one record for each event.
    pub(crate) fn outputs(self) -> &'static [&'static str] {
        match self {
            Self::Orders => &["load.scores.order-risk"],
            Self::Purchases => &["load.scores.repeat-purchase"],
            Self::Trivial => &["load.scores.trivial"],
            Self::Posts | Self::Reviews => &["load.scores.sentiment"],
            Self::RoutedBySchema | Self::RoutedByFields | Self::RoutedToOneLane => {
                &["load.precision.order-risk", "load.precision.repeat-purchase"]
            }
            Self::RoutedToTwoLanes => &["load.precision.order-risk", "load.throughput.repeat-purchase"],
            Self::TwoLanesOrdersDirect => &["load.throughput.repeat-purchase"],
            Self::OneLaneDirect | Self::TwoLanesDirect => self.scores(),
            Self::LargeAndSmallInOneLane => &["load.precision.order-risk"],
            Self::LargeAndSmallInTwoLanes => &["load.precision.order-risk", "load.throughput.order-risk"],
            Self::ReviewsAndPostsInOneLane => &["load.precision.sentiment"],
            Self::ReviewsAndPostsInTwoLanes => &["load.precision.sentiment", "load.throughput.sentiment"],
        }
    }

    /// The topics with the answers, when all services run.
    pub(crate) fn scores(self) -> &'static [&'static str] {
        match self {
            Self::Orders | Self::Purchases | Self::Trivial | Self::Posts | Self::Reviews => self.outputs(),
            Self::LargeAndSmallInOneLane | Self::LargeAndSmallInTwoLanes => &["load.scores.order-risk"],
            Self::ReviewsAndPostsInOneLane | Self::ReviewsAndPostsInTwoLanes => &["load.scores.sentiment"],
            _ => &["load.scores.order-risk", "load.scores.repeat-purchase"],
        }
    }

    /// The kinds of events that are counted apart, as figures call them.
    pub(crate) fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::LargeAndSmallInOneLane | Self::LargeAndSmallInTwoLanes => &["large", "small"],
            Self::ReviewsAndPostsInOneLane | Self::ReviewsAndPostsInTwoLanes => &["reviews", "posts"],
            _ => self.scores(),
        }
    }

    /// The lane that each of the kinds belongs to.
    pub(crate) fn lanes(self) -> &'static [Lane] {
        match self {
            Self::Orders | Self::Trivial | Self::Reviews => &[Lane::Precision],
            Self::Purchases | Self::Posts => &[Lane::Throughput],
            Self::RoutedBySchema
            | Self::RoutedByFields
            | Self::RoutedToOneLane
            | Self::OneLaneDirect
            | Self::LargeAndSmallInOneLane
            | Self::ReviewsAndPostsInOneLane => &[Lane::Precision, Lane::Precision],
            Self::RoutedToTwoLanes
            | Self::TwoLanesOrdersDirect
            | Self::TwoLanesDirect
            | Self::LargeAndSmallInTwoLanes
            | Self::ReviewsAndPostsInTwoLanes => &[Lane::Precision, Lane::Throughput],
        }
    }

    /// Which of the kinds an event is.
    fn kind(self, event: &ReferenceEvent) -> usize {
        let is_first = match self {
            Self::LargeAndSmallInOneLane | Self::LargeAndSmallInTwoLanes => {
                event.amount.is_some_and(|amount| amount >= LARGE)
            }
            _ => self.kinds().len() == 1 || event.task == Task::OrderRisk,
        };
        usize::from(!is_first)
    }

    /// All services that it takes to answer its events.
    pub(crate) fn services(self) -> &'static [&'static str] {
        match self {
            Self::Orders | Self::Trivial | Self::Reviews | Self::OneLaneDirect => &["precision-worker"],
            Self::Purchases | Self::Posts => &["throughput-worker"],
            Self::TwoLanesDirect => &["precision-worker", "throughput-worker"],
            Self::RoutedBySchema
            | Self::RoutedByFields
            | Self::RoutedToOneLane
            | Self::LargeAndSmallInOneLane
            | Self::ReviewsAndPostsInOneLane => &["router", "precision-worker"],
            Self::RoutedToTwoLanes
            | Self::TwoLanesOrdersDirect
            | Self::LargeAndSmallInTwoLanes
            | Self::ReviewsAndPostsInTwoLanes => &["router", "precision-worker", "throughput-worker"],
        }
    }

    /// Whether the workers of a lane read mixed events themselves.
    fn reads_itself(self, lane: &str) -> bool {
        match self {
            Self::OneLaneDirect | Self::TwoLanesDirect => true,
            Self::TwoLanesOrdersDirect => lane == "precision",
            _ => false,
        }
    }

    /// Whether its models and events are there. Those of texts are too large for the repository.
    pub(crate) fn ensure_there(self) -> Result<()> {
        ensure!(
            !self.is_texts() || Path::new(TEXTS).exists(),
            "{TEXTS} is not there; `cargo xtask models reviews` fetches and builds it and its models, in about ten minutes"
        );
        Ok(())
    }

    fn is_texts(self) -> bool {
        matches!(
            self,
            Self::Posts | Self::Reviews | Self::ReviewsAndPostsInOneLane | Self::ReviewsAndPostsInTwoLanes
        )
    }

    /// So many events, taken evenly from the data, whose histories grow with time; where it has fewer, it begins again.
    /// Where two kinds are mixed, `orders` is the part of the first (orders, large ones, reviews); without it they are mixed
    /// as the data has them.
    pub(crate) fn events(self, data: &Path, count: usize, orders: Option<f64>) -> Result<Vec<Event>> {
        let evenly = |all: Vec<Event>| -> Vec<_> {
            let wanted = count.min(all.len());
            (0..wanted).map(|number| all[number * all.len() / wanted].clone()).collect()
        };
        let all = self.all_events(data)?;
        let Some(part) = orders.filter(|_| self.kinds().len() == 2) else {
            return Ok(evenly(all).iter().cycle().take(count).cloned().collect());
        };
        let (first, second) = all.into_iter().partition(|event| event.kind == 0);
        let (first, second) = (evenly(first), evenly(second));
        let (mut first, mut second) = (first.iter().cycle(), second.iter().cycle());
        let is_first = |number: usize| {
            let due = |events: usize| (events as f64 * part.clamp(0.0, 1.0)).floor();
            due(number + 1) > due(number)
        };
        let mixed = (0..count).map(|number| if is_first(number) { first.next() } else { second.next() });
        Ok(mixed.flatten().cloned().collect())
    }

    /// All events that the data has, once each, in the order in which they happened.
    pub(crate) fn all_events(self, data: &Path) -> Result<Vec<Event>> {
        if self.is_texts() {
            return self.texts();
        }
        let read = reference_events(data, None);
        let read = read.with_context(|| format!("reading the reference data in {}", data.display()))?;
        let ours = read.filter(|event| self.only().is_none_or(|task| event.task == task));
        let events: Vec<_> = ours
            .map(|event| Event {
                kind: self.kind(&event),
                key: event.key,
                value: event.payload,
                happened_at: Some(event.happened_at),
            })
            .collect();
        ensure!(!events.is_empty(), "the data has no such events");
        Ok(events)
    }

    fn texts(self) -> Result<Vec<Event>> {
        let lines = std::fs::read_to_string(TEXTS).with_context(|| format!("reading {TEXTS}"))?;
        let event = |line: &str| {
            let line: Value = serde_json::from_str(line).context("a line is JSON")?;
            let event = &line["event"];
            let key = event["id"].as_str().context("a text has an id")?.to_owned();
            let kind = usize::from(self.kinds().len() == 2 && !key.starts_with(REVIEW));
            Ok(Event { kind, key, value: event.to_string().into_bytes(), happened_at: None })
        };
        lines.lines().map(event).collect()
    }

    /// The only task that its events lead to.
    fn only(self) -> Option<Task> {
        match self {
            Self::Orders | Self::LargeAndSmallInOneLane | Self::LargeAndSmallInTwoLanes => {
                Some(Task::OrderRisk)
            }
            Self::Purchases | Self::Trivial => Some(Task::RepeatPurchase),
            _ => None,
        }
    }

    /// How many routes its pipeline needs.
    pub(crate) fn routes(self) -> usize {
        match self {
            Self::Orders | Self::Purchases | Self::Trivial | Self::Posts | Self::Reviews => 1,
            _ => 2,
        }
    }

    /// Writes its pipeline file into `folder`. Of more than the [`routes`](Self::routes) that it needs, the others stand
    /// before these, look at fields and match no event.
    pub(crate) fn write(self, folder: &Path, routes: usize) -> Result<PathBuf> {
        ensure!(routes >= self.routes(), "this workload needs {} routes", self.routes());
        ensure!(
            routes == self.routes() || self.routes() == 2,
            "only the router's workloads can have more routes"
        );
        let home = if self.is_texts() { REVIEWS } else { COMMERCE };
        let home = Path::new(home).canonicalize().context("run this in the repository")?;
        let file = home.join("pipeline.yaml");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let text = text
            .replace("models/", &format!("{}/models/", home.display()))
            .replace("vocabularies/", &format!("{}/vocabularies/", home.display()));
        let reference: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        let trivial = Path::new(TRIVIAL).canonicalize().context("run this in the repository")?;
        let pipeline = self.pipeline(&reference, &trivial, routes - self.routes());
        let file = folder.join("pipeline.yaml");
        write_pipeline(&file, &pipeline)?;
        Ok(file)
    }

    fn pipeline(self, reference: &Value, trivial: &Path, more_routes: usize) -> Value {
        let task = |name: &str| {
            let mut task = reference["tasks"][name].clone();
            task["publish"]["topic"] = format!("load.scores.{name}").into();
            task["publish"]["partitions"] = PARTITIONS.into();
            task
        };
        let (schemas, tasks, routes) = match self {
            Self::Orders => (
                json!(["order"]),
                json!({"order-risk": task("order-risk")}),
                json!([{"from": "events", "task": "order-risk", "lane": "precision"}]),
            ),
            Self::Purchases => (
                json!(["purchase"]),
                json!({"repeat-purchase": task("repeat-purchase")}),
                json!([{"from": "events", "task": "repeat-purchase", "lane": "throughput"}]),
            ),
            Self::Posts | Self::Reviews => (
                json!([]),
                json!({"sentiment": task("sentiment")}),
                json!([{"from": "events", "task": "sentiment",
                        "lane": if self == Self::Posts { "throughput" } else { "precision" }}]),
            ),
            Self::Trivial => (
                json!(["purchase"]),
                json!({"trivial": {
                    "models": {"full": trivial},
                    "inputs": {"x": {"columns": ["units", "dollars", "frequency"]}},
                    "outputs": {"y": {"tensor": "y", "kind": "number"}},
                    "publish": {"topic": "load.scores.trivial", "format": "json", "carry": ["purchase_id"],
                                "partitions": PARTITIONS},
                }}),
                json!([{"from": "events", "task": "trivial", "lane": "precision"}]),
            ),
            Self::ReviewsAndPostsInOneLane | Self::ReviewsAndPostsInTwoLanes => {
                let second = if self == Self::ReviewsAndPostsInTwoLanes { "throughput" } else { "precision" };
                let review = format!("event.id.startsWith(\"{REVIEW}\")");
                (
                    json!([]),
                    json!({"sentiment": task("sentiment")}),
                    json!([
                        {"name": "reviews", "from": "events", "when": review, "task": "sentiment",
                         "lane": "precision"},
                        {"name": "posts", "from": "events", "task": "sentiment", "lane": second},
                    ]),
                )
            }
            Self::LargeAndSmallInOneLane | Self::LargeAndSmallInTwoLanes => {
                let second = if self == Self::LargeAndSmallInTwoLanes { "throughput" } else { "precision" };
                (
                    json!(["order"]),
                    json!({"order-risk": task("order-risk")}),
                    json!([
                        {"name": "large", "from": "events", "when": format!("event.amount >= {LARGE:.1}"),
                         "task": "order-risk", "lane": "precision"},
                        {"name": "small", "from": "events", "when": format!("event.amount < {LARGE:.1}"),
                         "task": "order-risk", "lane": second},
                    ]),
                )
            }
            _ => {
                let rule = |schema: &str, field: &str| match self {
                    Self::RoutedByFields => format!("schema == \"{schema}\" && {field}"),
                    _ => format!("schema == \"{schema}\""),
                };
                let others = (0..more_routes).map(|number| {
                    let (schema, field, task) = match number % 2 {
                        0 => ("order", "amount", "order-risk"),
                        _ => ("purchase", "dollars", "repeat-purchase"),
                    };
                    let when = format!("schema == \"{schema}\" && event.{field} < {}.0", -1 - number as i64);
                    json!({"name": format!("other-{number}"), "from": "events", "when": when, "task": task,
                           "lane": "precision"})
                });
                let two = [Self::RoutedToTwoLanes, Self::TwoLanesOrdersDirect, Self::TwoLanesDirect];
                let second = if two.contains(&self) { "throughput" } else { "precision" };
                (
                    json!(["order", "purchase"]),
                    json!({"order-risk": task("order-risk"), "repeat-purchase": task("repeat-purchase")}),
                    others
                        .chain([
                            json!({"from": "events", "when": rule("order", "event.amount >= 0.0"),
                                   "task": "order-risk", "lane": "precision"}),
                            json!({"from": "events", "when": rule("purchase", "event.units >= 0"),
                                   "task": "repeat-purchase", "lane": second}),
                        ])
                        .collect(),
                )
            }
        };
        let lane = |name: &str| {
            let mut lane = reference["lanes"][name].clone();
            lane["device"] = json!(["cpu"]);
            lane["model_threads"] = 1.into();
            lane["partitions"] = PARTITIONS.into();
            lane["direct"] = self.reads_itself(name).into();
            lane
        };
        let mut lanes = json!({});
        for name in ["precision", "throughput"] {
            let used = routes.as_array().into_iter().flatten().any(|route| route["lane"] == name);
            if used {
                lanes[name] = lane(name);
            }
        }
        let format = if self.is_texts() { "json" } else { "avro" };
        json!({
            "pipeline": PIPELINE,
            "sources": {"events": {"topic": SOURCE, "format": format, "schemas": schemas, "tombstones": "skip"}},
            "routes": routes,
            "tasks": tasks,
            "lanes": lanes,
            "dead_letters": {"topic": "load.dead-letters", "partitions": PARTITIONS},
        })
    }
}

fn read_pipeline(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).context("the pipeline file was written as JSON")
}

/// JSON is YAML.
fn write_pipeline(file: &Path, pipeline: &Value) -> Result<()> {
    std::fs::write(file, serde_json::to_string_pretty(pipeline).context("writing JSON")?)
        .with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_were_not_built_are_named_with_what_builds_them() {
        // Tests run in the crate's folder, where there are none.
        let error = Workload::ReviewsAndPostsInTwoLanes.ensure_there().expect_err("not there").to_string();
        assert!(error.contains("cargo xtask models reviews"), "{error}");
        Workload::RoutedToTwoLanes
            .ensure_there()
            .expect("the models of orders and purchases are in the repository");
    }
}
