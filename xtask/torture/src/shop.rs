//! The pipeline under torture: a mixed topic that the router splits and one that the precision workers read themselves,
//! with models so small that the rig computes their answers itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use twinlane_testkit::broker::Coordinated;
use twinlane_testkit::client;

use crate::Models;

/// The pipeline's name; the cluster is the rig's own, so nothing else is called so.
pub(crate) const NAME: &str = "torture";
/// Partitions of each source topic at the start; partitions are added to them.
pub(crate) const SOURCE_PARTITIONS: i32 = 6;
/// Partitions of everything that Twinlane writes.
const PARTITIONS: &str = "4";
/// What an answer on the reviews' topic may have at most, so that one that carries a long text does not fit.
const REVIEW_BYTES: &str = "60000";

/// A topic that events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Mixed: the router splits it over both lanes.
    Events,
    /// Read by the precision workers themselves.
    Reviews,
}

/// Both.
pub(crate) const SOURCES: [Source; 2] = [Source::Events, Source::Reviews];

impl Source {
    pub(crate) fn topic(self) -> &'static str {
        match self {
            Self::Events => "torture.events",
            Self::Reviews => "torture.reviews",
        }
    }

    /// The source of this topic.
    pub(crate) fn of(topic: &str) -> Option<Self> {
        SOURCES.into_iter().find(|source| source.topic() == topic)
    }
}

/// A kind of service and the lane that it works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    Router,
    Precision,
    Throughput,
}

/// All of them.
pub(crate) const ROLES: [Role; 3] = [Role::Router, Role::Precision, Role::Throughput];

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Precision => "precision",
            Self::Throughput => "throughput",
        }
    }

    /// The name of its binary.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Precision => "precision-worker",
            Self::Throughput => "throughput-worker",
        }
    }
}

/// The topics with answers, and the lane that writes each.
pub(crate) const OUTPUTS: [(&str, Role); 4] = [
    ("torture.scores.orders", Role::Precision),
    ("torture.scores.roots", Role::Throughput),
    ("torture.scores.lookups", Role::Throughput),
    ("torture.scores.reviews", Role::Precision),
];
pub(crate) const DEAD_LETTERS: &str = "torture.dead-letters";

/// The topics between the router and the workers.
const LANES: [&str; 3] = ["torture.precision.order", "torture.throughput.root", "torture.throughput.lookup"];

/// Those of them that there are: a lane whose workers read mixed topics themselves has none.
pub(crate) fn lanes(bootstrap: &str) -> Result<Vec<&'static str>> {
    let there = client::topics(bootstrap)?;
    Ok(LANES.into_iter().filter(|lane| there.iter().any(|topic| topic == lane)).collect())
}

/// The consumer groups, each with the topics that it reads.
pub(crate) const GROUPS: [(&str, &[&str]); 4] = [
    ("torture.router.precision", &["torture.events"]),
    ("torture.router.throughput", &["torture.events"]),
    ("torture.precision", &["torture.precision.order", "torture.reviews"]),
    ("torture.throughput", &["torture.throughput.root", "torture.throughput.lookup"]),
];

/// Everything whose coordinator must be there before answers can flow.
pub(crate) const COORDINATED: [Coordinated<'static>; 8] = [
    Coordinated::Group("torture.precision"),
    Coordinated::Group("torture.throughput"),
    Coordinated::Group("torture.router.precision"),
    Coordinated::Group("torture.router.throughput"),
    Coordinated::Transactions("torture.precision.0"),
    Coordinated::Transactions("torture.throughput.0"),
    Coordinated::Transactions("torture.router.precision.0"),
    Coordinated::Transactions("torture.router.throughput.0"),
];

/// Writes the pipeline file into `folder` and creates the topics that must not be as Twinlane would create them.
pub(crate) fn open(bootstrap: &str, folder: &Path, models: Models, direct: bool) -> Result<PathBuf> {
    let text = match models {
        Models::Trivial => include_str!("shop.yaml"),
        Models::Reference => include_str!("reference.yaml"),
    };
    let commerce = Path::new("pipelines/commerce").canonicalize();
    let commerce = commerce.context("the reference pipeline is not there: run this in the repository")?;
    let models = Path::new("crates/inference/tests/models").canonicalize();
    let models = models.context("the models are not where they should be: run this in the repository")?;
    let inputs = reference_inputs(&commerce)?;
    let text = text
        .replace("{shop}", NAME)
        .replace("{order_inputs}", &inputs("order-risk"))
        .replace("{root_inputs}", &inputs("repeat-purchase"))
        .replace("{models}", &models.to_string_lossy())
        .replace("{commerce}", &commerce.to_string_lossy())
        .replace("{partitions}", PARTITIONS)
        .replace("{direct}", &direct.to_string());
    let file = folder.join("pipeline.yaml");
    std::fs::write(&file, text).context("writing the pipeline file")?;
    for source in SOURCES {
        client::create_topic(bootstrap, source.topic(), SOURCE_PARTITIONS, &[])?;
    }
    let partitions = PARTITIONS.parse().expect("a number");
    let limit = [("max.message.bytes", REVIEW_BYTES)];
    client::create_topic(bootstrap, "torture.scores.reviews", partitions, &limit)?;
    for (topic, _) in OUTPUTS.into_iter().filter(|(topic, _)| !topic.ends_with("reviews")) {
        client::create_topic(bootstrap, topic, partitions, &[])?;
    }
    client::create_topic(bootstrap, DEAD_LETTERS, partitions, &[])?;
    Ok(file)
}

/// How the reference pipeline in this folder fills the tensors of a task: as it does, so that the two cannot drift apart.
fn reference_inputs(commerce: &Path) -> Result<impl Fn(&str) -> String> {
    let file = commerce.join("pipeline.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let pipeline: serde_json::Value =
        serde_saphyr::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
    Ok(move |task: &str| {
        let inputs = pipeline["tasks"][task]["inputs"].to_string();
        inputs.replace("\"vocabularies/", "\"{commerce}/vocabularies/")
    })
}
