//! What may be typed after `twinlane`. The help texts are where most people learn the command, so each shows it in use.

use std::{num::NonZeroU64, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use twinlane_record::Coordinates;
use twinlane_service::LogFormat;

use crate::dead_letters::arguments::DeadLetters;

const EXAMPLES: &str = "\
From a pipeline file to scored events:
  # is the file right, do the models fit, what would run?
  twinlane check pipelines/commerce
  # make the topics that are missing
  twinlane topics create pipelines/commerce
  # where there is a schema registry: tell it what is written
  twinlane schemas register --registry http://localhost:8081 pipelines/commerce
  # router and workers in one process tree, for development
  twinlane run pipelines/commerce
  # follow scored events and dead letters as they come
  twinlane tail pipelines/commerce
  # what became of one event
  twinlane explain pipelines/commerce shop.events/3/10442
  # what could not be answered, and why; and once that is repaired, again
  twinlane dead-letters list pipelines/commerce
  twinlane dead-letters redrive pipelines/commerce

PIPELINE is a pipeline file, or the folder in which a pipeline.yaml lies.

Exit codes: 0 fine, 2 invalid input, 3 not authorised, 4 missing or misshapen
topic, 5 fenced by another process with the same ordinal or by a second redrive,
6 model, 7 no broker answered, 8 a model run that hangs, 130 stopped by Ctrl-C
with work left, 1 anything else.";

/// Scores Kafka streams with ONNX models, exactly once.
#[derive(Debug, Parser)]
#[command(name = "twinlane", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a pipeline and its models, and print what would run
    Check(Check),
    /// Print the JSON Schema of pipeline files, for editors
    #[command(after_help = "Example, for an editor with a YAML language server:\n  \
        twinlane schema > pipeline.schema.json\n  \
        and as the first line of a pipeline file:\n  \
        # yaml-language-server: $schema=../../pipeline.schema.json")]
    Schema,
    /// Make the topics of a pipeline
    Topics(Topics),
    /// Register what a pipeline writes with a schema registry
    Schemas(Schemas),
    /// Run all services of a pipeline in one process tree, for development
    Run(Run),
    /// Follow scored events and dead letters
    Tail(Tail),
    /// Find what became of one event
    Explain(Explain),
    /// Look at what could not be answered, and send it once more
    DeadLetters(DeadLetters),
}

/// Which pipeline.
#[derive(Args, Debug, Clone)]
pub(crate) struct Pipeline {
    /// Pipeline file, or the folder in which a pipeline.yaml lies
    pub(crate) pipeline: PathBuf,
    /// Folder with Avro schemas and their index.json [default: the folder `schemas` beside the pipeline or above it]
    #[arg(long, value_name = "DIR")]
    pub(crate) schemas: Option<PathBuf>,
    /// Settings file of the services (TOML), for all that has no flag
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
}

/// Which cluster.
#[derive(Args, Debug, Clone)]
pub(crate) struct Cluster {
    /// Kafka bootstrap addresses [default: localhost:9092]
    #[arg(long, value_name = "HOST:PORT,…", env = "KAFKA_BROKERS", hide_env_values = true)]
    pub(crate) brokers: Option<String>,
}

/// Which ONNX Runtime.
#[derive(Args, Debug, Clone)]
pub(crate) struct Runtime {
    /// ONNX Runtime's shared library [default: what `cargo xtask setup` fetched, else the system's]
    #[arg(long, value_name = "FILE", env = "ORT_DYLIB_PATH", hide_env_values = true)]
    pub(crate) onnxruntime: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  twinlane check pipelines/commerce\n  \
    # before there is a model\n  \
    twinlane check --no-models my/pipeline.yaml\n\n\
    Needs no Kafka. Every model that the file names is loaded on the CPU, and its\n\
    tensors' names, types and shapes are held against the file. Exits with 2 if the\n\
    file is wrong, with 6 if a model is.")]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
    /// Do not load the models
    #[arg(long)]
    pub(crate) no_models: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Topics {
    #[command(subcommand)]
    pub(crate) command: TopicsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Create the topics of a pipeline that do not exist: what it writes, and what it reads
    Create(TopicsCreate),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  twinlane topics create pipelines/commerce\n  \
    twinlane topics create --source-partitions 24 --brokers kafka-1:9092 pipelines/commerce\n\n\
    Topics that exist are left as they are. The partitions of topics that Twinlane\n\
    writes stand in the pipeline file.")]
pub(crate) struct TopicsCreate {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Partitions of source topics that have to be created
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) source_partitions: i32,
}

#[derive(Args, Debug)]
pub(crate) struct Schemas {
    #[command(subcommand)]
    pub(crate) command: SchemasCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SchemasCommand {
    /// Register the schema of scored events for every topic that they are published to as Avro
    Register(SchemasRegister),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    # what would be registered, and whether the registry allows it\n  \
    twinlane schemas register --registry http://localhost:8081 --dry-run pipelines/commerce\n  \
    twinlane schemas register --registry https://registry:8081 --user twinlane \\\n      \
    --password-file /run/secrets/registry pipelines/commerce\n\n\
    The subject is the topic's name with -value behind it. Every schema is checked\n\
    against the subject's newest version first, and nothing is registered unless all\n\
    are compatible. Workers that start with this registry write under the id that it\n\
    gave. A dead letter is the bytes of its event, so there is no schema of its own to\n\
    register. Exits with 1 if a schema is incompatible, with 3 if access is refused.\n\
    A password that is in no file may stand in TWINLANE_REGISTRY__PASSWORD.")]
pub(crate) struct SchemasRegister {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// Address of a registry with Confluent's API [default: the settings' registry.url]
    #[arg(long, value_name = "URL")]
    pub(crate) registry: Option<String>,
    /// User, for basic authentication
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// File that holds the user's password
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Certificates of the authorities that may vouch for the registry (PEM) [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Check, and register nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  twinlane run pipelines/commerce\n  \
    twinlane run --brokers kafka-1:9092 --log-format json my/pipeline.yaml\n  \
    RUST_LOG=debug twinlane run pipelines/commerce\n\n\
    Starts the router, if a source needs it, and a worker per lane: the programs that\n\
    lie beside this one. Their log lines come with the service's name in front. One\n\
    that dies is started again, after a pause that grows. Ctrl-C stops all of them\n\
    cleanly; twice, at once. In production, run the services under a supervisor.")]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
    /// Which replica these services are; two that run at once must differ
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) ordinal: u32,
    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  twinlane tail pipelines/commerce\n  \
    # what could not be answered, and why\n  \
    twinlane tail --dead-letters --from-beginning pipelines/commerce\n  \
    twinlane tail --json -n 1000 pipelines/commerce | jq .outputs\n\n\
    Reads committed records only, as your consumers should\n\
    (isolation.level=read_committed), and joins no group. Times are UTC, when an\n\
    event was scored; the milliseconds are from its own timestamp to then.")]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Dead letters alone
    #[arg(long)]
    pub(crate) dead_letters: bool,
    /// Begin with the oldest records instead of those that come from now on
    #[arg(long)]
    pub(crate) from_beginning: bool,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  twinlane explain pipelines/commerce shop.events/3/10442\n  \
    twinlane explain --json pipelines/commerce shop.events/3/10442 | jq .outcome\n\n\
    COORDINATES are the event's own: topic/partition/offset on its source topic, which\n\
    an answer names as `event_id` and a dead letter in the header twinlane-source.\n\
    Those of an answer, of a dead letter or of a record between router and worker\n\
    lead to their event.\n\n\
    Says which route of the pipeline file takes the event, where it was routed to, and\n\
    where its answer or its dead letters stand; of an event that has none yet, how many\n\
    records are before it. Reads committed records only, joins no group and changes\n\
    nothing. Partitions are searched from the event's own time on. Moments within the\n\
    services are known where they run with `timings`.\n\n\
    Exits with 1 if the event was passed and neither an answer nor a dead letter is there.")]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Where the event stands, topic/partition/offset
    pub(crate) coordinates: Coordinates,
    /// As one JSON object, nothing cut
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
    }

    #[test]
    fn the_definitions_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_example_of_the_help_is_a_valid_command() {
        let mut examples = 0;
        let mut root = Arguments::command();
        let nested = root.get_subcommands().flat_map(|command| command.get_subcommands());
        let commands: Vec<_> = root.get_subcommands().chain(nested).cloned().collect();
        let helps = commands.iter().filter_map(|c| c.get_after_help().map(ToString::to_string));
        for help in helps.chain([root.render_long_help().to_string()]) {
            for line in help.lines().filter_map(|line| line.trim().strip_prefix("twinlane ")) {
                // What follows a bar or an arrow is the shell's.
                let typed = line.split(['|', '>']).next().unwrap_or(line);
                parse(&format!("twinlane {typed}")).unwrap_or_else(|error| panic!("`{line}`: {error}"));
                examples += 1;
            }
        }
        assert!(examples >= 23, "only {examples} examples were found");
    }

    #[test]
    fn a_tail_takes_its_flags_on_either_side_of_the_pipeline() {
        let Ok(Command::Tail(tail)) = parse("twinlane tail --json shop --dead-letters -n 3") else {
            panic!("not a tail")
        };
        assert!(tail.json && tail.dead_letters && !tail.from_beginning);
        assert_eq!((tail.count.map(NonZeroU64::get), tail.pipeline.pipeline), (Some(3), "shop".into()));
    }

    #[test]
    fn a_pipeline_must_be_named() {
        for command in ["check", "run", "tail", "topics create", "dead-letters list", "dead-letters redrive"]
        {
            let error = parse(&format!("twinlane {command}")).expect_err(command).to_string();
            assert!(error.contains("PIPELINE"), "{error}");
        }
    }

    #[test]
    fn zero_records_or_partitions_make_no_sense() {
        assert!(parse("twinlane tail -n 0 shop").is_err());
        assert!(parse("twinlane topics create --source-partitions 0 shop").is_err());
    }
}
