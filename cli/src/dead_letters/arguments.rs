//! What may be typed after `twinlane dead-letters`.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

use clap::{Args, Subcommand, builder::PossibleValuesParser, builder::TypedValueParser as _};
use twinlane_record::{Coordinates, Reason};

use super::filter::{Filter, moment};
use crate::arguments::{Cluster, Pipeline};

const LIST_EXAMPLES: &str = "\
Examples:
  twinlane dead-letters list pipelines/commerce
  twinlane dead-letters list --reason missing_field --since 2h pipelines/commerce
  twinlane dead-letters list --json pipelines/commerce | jq -r .dead_letter.detail

Reads committed records only, and joins no group. Times are UTC, when an event
died. TIME is RFC 3339 (2026-01-31T12:00:00Z) or an age: 90s, 15m, 2h, 3d.";

const SHOW_EXAMPLES: &str = "\
Examples:
  twinlane dead-letters show pipelines/commerce commerce.dead-letters/2/17
  twinlane dead-letters show --json pipelines/commerce commerce.dead-letters/2/17

COORDINATES are the first column of `list`: topic/partition/offset of the dead
letter. Long keys, values and headers are cut; --json shows them whole.";

const REDRIVE_EXAMPLES: &str = "\
Examples:
  # what would be sent, and what would not, and why
  twinlane dead-letters redrive --dry-run pipelines/commerce
  # the rule is fixed: all that no route matched, once each
  twinlane dead-letters redrive --reason no_route --yes pipelines/commerce
  # the model is fixed: what the broken one refused, straight to its lane
  twinlane dead-letters redrive --to lane --model-digest 5ce21b1b --yes pipelines/commerce

Each dead letter is sent once, with the key, value and headers that the event came
with. What was sent is recorded in the topic <pipeline>.redriven in the same
transaction: filters that overlap, a second run, or a run that was killed repeat
nothing. Two at once: the second goes on, the first ends with exit code 5.

--to source  the event stands anew at the end of its source partition and is routed
             again; its answer names these new coordinates, where the header
             twinlane-redriven-from names the dead letter. Whoever else reads that
             topic sees the event a second time
--to lane    the event goes to the lane that refused it, past the router, and its
             answer names the coordinates that it always had. Sources that are read
             without a router have no lane topic: theirs go to the source

An event that dies again carries its count of deaths; at the limit it is left, and
the end of the run says so. Left too, and counted: dead letters whose value did not
fit (twinlane-dead-truncated). Readers must use isolation.level=read_committed.
Ctrl-C ends after the transaction that is under way, with exit code 130.";

#[derive(Args, Debug)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    pub(crate) command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List dead letters, and count them by reason
    List(List),
    /// Show one dead letter whole
    Show(Show),
    /// Send events that died once more, once each
    Redrive(Redrive),
}

/// Which dead letters.
#[derive(Args, Debug, Clone)]
pub(crate) struct Selection {
    /// Only these reasons (comma between them, or several times)
    #[arg(long, value_name = "REASON", value_delimiter = ',', value_parser = reasons())]
    reason: Vec<Reason>,
    /// Only events of these routes
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    route: Vec<String>,
    /// Only events of these tasks
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    task: Vec<String>,
    /// Only what died at this time or later
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i64>,
    /// Only what died before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,
    /// Only what a model refused whose digest begins so
    #[arg(long, value_name = "DIGEST")]
    model_digest: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroU64>,
}

impl Selection {
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            reasons: self.reason.clone(),
            routes: self.route.clone(),
            tasks: self.task.clone(),
            since_ms: self.since,
            until_ms: self.until,
            model_digest: self.model_digest.clone(),
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// One JSON object a line, with key, value and headers
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Where the dead letter stands, topic/partition/offset
    pub(crate) coordinates: Coordinates,
    /// As one JSON object, nothing cut
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a redriven event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum To {
    /// To its source topic, to be routed again
    Source,
    /// To the topic of the lane that refused it
    Lane,
}

#[derive(Args, Debug)]
#[command(after_help = REDRIVE_EXAMPLES)]
pub(crate) struct Redrive {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Where events go
    #[arg(long, value_enum, default_value_t = To::Source)]
    pub(crate) to: To,
    /// Leave what has died so often
    #[arg(long, value_name = "N", default_value = "3")]
    pub(crate) limit_deaths: NonZeroU32,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask first
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Dead letters in one transaction at most
    #[arg(long, value_name = "N", default_value = "500")]
    pub(crate) per_transaction: NonZeroUsize,
}

fn reasons() -> impl clap::builder::TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::ALL.map(Reason::as_str)).map(|text| {
        let named = Reason::ALL.into_iter().find(|reason| reason.as_str() == text);
        named.expect("the parser lets these names through alone")
    })
}
