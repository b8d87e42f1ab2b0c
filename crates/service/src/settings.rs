//! Settings of a service: flags over environment over file over defaults, refused when something is unknown.
//! The only place that reads the environment.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    io::IsTerminal as _,
    net::IpAddr,
    path::PathBuf,
};

use clap::Args;
use config::{Config, ConfigError, Environment, File};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use twinlane_kafka::Connection;

use crate::{RegistrySettings, Traces, properties};

/// What a service needs to know besides its pipeline file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Pipeline file.
    pub pipeline: PathBuf,
    /// Folder with the Avro schemas and their `index.json`.
    pub schemas: PathBuf,
    /// Which replica of its stage this is; part of the transactional id. Two replicas must never share one.
    pub ordinal: Option<u32>,
    /// Put before every transactional id, to tell apart two installations on one cluster.
    pub transactional_prefix: String,
    /// Create the topics that Twinlane writes and that do not exist.
    pub create_topics: bool,
    /// Address of the admin port (metrics, health). Only this machine by default.
    pub admin_host: IpAddr,
    /// Admin port; 0 takes a free one and logs it.
    pub admin_port: u16,
    /// ONNX Runtime's shared library; else `ORT_DYLIB_PATH`, else the system's.
    pub onnxruntime: Option<PathBuf>,
    /// MiB of a GPU's memory that each session may take; a worker has one session for each model and each of its
    /// `model_threads` (2 on a GPU). Without it, what they need.
    pub gpu_session_mib: Option<usize>,
    /// Model files of more MiB are refused; while a model is changed, two are held.
    pub max_model_mib: Option<u64>,
    /// Log lines as `text` or `json`.
    pub log_format: LogFormat,
    /// Every answer says in the header `twinlane-timings` when its event was read, run and produced, by the clock of
    /// the machine. For measurements: it costs a header.
    pub timings: bool,
    /// Where traces go.
    pub traces: Traces,
    /// Kafka.
    pub kafka: Kafka,
    /// Schema registry.
    pub registry: RegistrySettings,
}

/// The `[kafka]` section. Where it is shown, passwords and the like are not.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Bootstrap addresses.
    pub brokers: String,
    /// librdkafka properties for every client.
    #[serde(with = "properties")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub common: BTreeMap<String, String>,
    /// librdkafka properties for consumers.
    #[serde(with = "properties")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub consumer: BTreeMap<String, String>,
    /// librdkafka properties for producers.
    #[serde(with = "properties")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub producer: BTreeMap<String, String>,
    /// Files that hold the values of librdkafka properties for every client, such as `sasl.password`; a line break at a file's
    /// end is left out. They are read at the start.
    #[serde(deserialize_with = "properties::deserialize")]
    pub secrets: BTreeMap<String, String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pipeline: PathBuf::new(),
            schemas: "schemas".into(),
            ordinal: None,
            transactional_prefix: String::new(),
            create_topics: true,
            admin_host: IpAddr::from([127, 0, 0, 1]),
            admin_port: 0,
            onnxruntime: None,
            gpu_session_mib: None,
            max_model_mib: None,
            log_format: LogFormat::Text,
            timings: false,
            traces: Traces::default(),
            kafka: Kafka::default(),
            registry: RegistrySettings::default(),
        }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".into(),
            common: BTreeMap::new(),
            consumer: BTreeMap::new(),
            producer: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("common", &twinlane_kafka::shown(&self.common))
            .field("consumer", &twinlane_kafka::shown(&self.consumer))
            .field("producer", &twinlane_kafka::shown(&self.producer))
            .field("secrets", &self.secrets)
            .finish()
    }
}

/// Flags that every service takes. Each may also stand in the settings file, or in the environment as
/// `TWINLANE_<NAME>` (`TWINLANE_KAFKA__BROKERS` for a nested one); flags win.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Pipeline file, e.g. pipelines/commerce/pipeline.yaml
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,
    /// Folder with Avro schemas and their index.json [default: schemas]
    #[arg(long, value_name = "DIR")]
    pub schemas: Option<PathBuf>,
    /// Kafka bootstrap addresses [default: localhost:9092]
    #[arg(long, value_name = "HOST:PORT,…")]
    pub brokers: Option<String>,
    /// Which replica of its stage this is [default: the number at the end of the host name, else 0]
    #[arg(long, value_name = "N")]
    pub ordinal: Option<u32>,
    /// Port for metrics and health on localhost; 0 takes a free one [default: 0]
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// ONNX Runtime's shared library [default: ORT_DYLIB_PATH, else the system's]
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Write on every answer when its event was read, run and produced (header twinlane-timings)
    #[arg(long)]
    pub timings: bool,
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
}

/// A setting is wrong or unknown.
#[derive(Debug, thiserror::Error)]
#[error("settings: {0}; see --help for what may be set, in a file, as TWINLANE_… or as a flag")]
pub struct Invalid(String);

impl From<ConfigError> for Invalid {
    fn from(error: ConfigError) -> Self {
        let text = error.to_string();
        // A parser quotes the line that it does not understand, which may be the one with the password.
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|'));
        Self(lines.collect::<Vec<_>>().join(" "))
    }
}

impl Settings {
    /// Puts file, environment and flags together.
    pub fn load(flags: &Flags) -> Result<Self, Invalid> {
        Self::put_together(flags, None)
    }

    /// `environment` instead of the process's own, in tests.
    fn put_together(flags: &Flags, environment: Option<HashMap<String, String>>) -> Result<Self, Invalid> {
        let mut sources = Config::builder();
        if let Some(file) = &flags.settings {
            sources = sources.add_source(File::from(file.as_path()).format(config::FileFormat::Toml));
        }
        // Values stay as they are until it is known what they are for: a password may look like a number.
        let environment =
            Environment::with_prefix("TWINLANE").prefix_separator("_").separator("__").source(environment);
        let mut settings: Settings = sources.add_source(environment).build()?.try_deserialize()?;
        let overlay = flags.clone();
        replace(&mut settings.pipeline, overlay.pipeline);
        replace(&mut settings.schemas, overlay.schemas);
        replace(&mut settings.kafka.brokers, overlay.brokers);
        replace(&mut settings.admin_port, overlay.admin_port);
        replace(&mut settings.log_format, overlay.log_format);
        settings.timings |= overlay.timings;
        settings.ordinal = overlay.ordinal.or(settings.ordinal);
        settings.onnxruntime = overlay.onnxruntime.or(settings.onnxruntime);
        if settings.pipeline.as_os_str().is_empty() {
            return Err(Invalid("no pipeline file; give --pipeline FILE".into()));
        }
        Ok(settings)
    }

    /// How to reach Kafka. Reads the files with secrets.
    ///
    /// # Errors
    /// When one of them cannot be read or is empty, or its property is set elsewhere too.
    pub fn connection(&self) -> Result<Connection, Invalid> {
        Ok(Connection {
            brokers: self.kafka.brokers.clone(),
            common: self.kafka.common.clone(),
            secrets: properties::read(&self.kafka).map_err(Invalid)?,
            consumer: self.kafka.consumer.clone(),
            producer: self.kafka.producer.clone(),
        })
    }

    /// All of it as a settings file, with what applies where nothing is set. Passwords and the like are left out, of
    /// files with secrets the names stand there.
    pub(crate) fn dump(&self) -> Result<String, toml::ser::Error> {
        let mut applied = self.clone();
        applied.ordinal = Some(self.replica());
        applied.onnxruntime = self.onnxruntime.clone().or_else(ort_dylib_path);
        toml::to_string(&applied)
    }

    /// The replica's number: set, or from a StatefulSet's host name (`precision-worker-3`), or 0.
    pub fn replica(&self) -> u32 {
        self.ordinal.or_else(|| ordinal_of(&host_name()?)).unwrap_or(0)
    }

    /// The transactional id of one stage of this replica: prefix, pipeline, stage, ordinal.
    pub fn transactional_id(&self, pipeline: &str, stage: &str) -> String {
        let mut id = self.transactional_prefix.clone();
        // Writing to a String cannot fail.
        let _ = write!(id, "{pipeline}.{stage}.{}", self.replica());
        id
    }
}

/// The log filter that `RUST_LOG` names, if any.
pub(crate) fn log_filter() -> Option<String> {
    variable("RUST_LOG")
}

/// Whether log lines are coloured: on a terminal, or where who passes them on to one says so; never with `NO_COLOR`.
pub(crate) fn coloured() -> bool {
    let wanted =
        std::io::stderr().is_terminal() || variable("CLICOLOR_FORCE").is_some_and(|forced| forced != "0");
    wanted && variable("NO_COLOR").is_none()
}

/// The library that `ORT_DYLIB_PATH` names, if any.
pub(crate) fn ort_dylib_path() -> Option<PathBuf> {
    variable("ORT_DYLIB_PATH").map(PathBuf::from)
}

fn host_name() -> Option<String> {
    variable("HOSTNAME")
}

#[expect(clippy::disallowed_methods, reason = "this module is where the environment is read")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn ordinal_of(host: &str) -> Option<u32> {
    host.rsplit_once('-')?.1.parse().ok()
}

fn replace<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Result<Settings, Invalid> {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
        std::fs::write(file.path(), toml).expect("written");
        Settings::load(&Flags { settings: Some(file.path().into()), ..Flags::default() })
    }

    #[test]
    fn librdkafka_properties_keep_their_dotted_names() {
        let settings =
            load("pipeline = \"p.yaml\"\n[kafka.common]\n\"security.protocol\" = \"SSL\"").expect("valid");
        assert_eq!(settings.kafka.common["security.protocol"], "SSL");
        assert_eq!(settings.kafka.brokers, "localhost:9092");
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = load("pipelin = \"p.yaml\"").expect_err("a typing error").to_string();
        assert!(error.contains("pipelin"), "{error}");
    }

    #[test]
    fn a_secret_comes_from_a_file_and_is_seen_by_the_client_alone() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "hunter2\n").expect("written");
        let toml = format!(
            "pipeline = \"p.yaml\"\n[kafka.common]\n\"ssl.key.password\" = \"hunter2\"\n[kafka.secrets]\n\
             \"sasl.password\" = {:?}",
            file.path()
        );
        let settings = load(&toml).expect("valid");
        let connection = settings.connection().expect("the file is there");
        assert_eq!(connection.secrets["sasl.password"], "hunter2");
        let dump = settings.dump().expect("settings can be written");
        for shown in [format!("{settings:?}"), format!("{connection:?}"), dump.clone()] {
            assert!(!shown.contains("hunter2") && shown.contains("ssl.key.password"), "{shown}");
        }
        assert!(dump.contains(&format!("\"sasl.password\" = {:?}", file.path())), "{dump}");
        assert!(dump.contains("\"ssl.key.password\" = \"<redacted>\""), "{dump}");
        // What is shown can be used, once the secret is put back.
        let again = load(&dump).expect("a settings file");
        assert_eq!(again.dump().expect("settings can be written"), dump);
    }

    #[test]
    fn a_file_without_a_secret_is_named_with_its_property() {
        let empty = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(empty.path(), "\n").expect("written");
        let section =
            |file: &str| format!("pipeline = \"p.yaml\"\n[kafka.secrets]\n\"sasl.password\" = {file:?}");
        for file in ["/nowhere/password", &empty.path().to_string_lossy()] {
            let error = load(&section(file)).expect("valid").connection().expect_err("no secret").to_string();
            assert!(error.contains("sasl.password") && error.contains(file), "{error}");
        }
        let twice = section("/etc/hostname") + "\n[kafka.common]\n\"sasl.password\" = \"hunter2\"";
        let error = load(&twice).expect("valid").connection().expect_err("set twice").to_string();
        assert!(error.contains("sasl.password") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_line_that_cannot_be_read_is_not_repeated() {
        let error = load("[kafka.common]\n\"sasl.password\" = \"hunter2").expect_err("no end").to_string();
        assert!(!error.contains("hunter2") && error.contains("line 2"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn properties_may_be_written_in_the_environment_as_shells_can_and_stay_text() {
        let environment = [
            ("TWINLANE_PIPELINE", "p.yaml"),
            ("TWINLANE_ADMIN_PORT", "9464"),
            ("TWINLANE_CREATE_TOPICS", "false"),
            ("TWINLANE_KAFKA__COMMON__SASL_PASSWORD", "007e1"),
            ("TWINLANE_KAFKA__COMMON__SASL.USERNAME", "shop"),
            ("TWINLANE_KAFKA__CONSUMER__SESSION_TIMEOUT_MS", "9000"),
            ("TWINLANE_KAFKA__SECRETS__SSL_KEY_PASSWORD", "/run/secrets/key"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings =
            Settings::put_together(&Flags::default(), Some(environment.into())).expect("valid settings");
        assert_eq!((settings.admin_port, settings.create_topics), (9464, false));
        let kafka = &settings.kafka;
        assert_eq!(kafka.common["sasl.password"], "007e1");
        assert_eq!(kafka.common["sasl.username"], "shop");
        assert_eq!(kafka.consumer["session.timeout.ms"], "9000");
        assert_eq!(kafka.secrets["ssl.key.password"], "/run/secrets/key");
    }

    #[test]
    fn a_stateful_set_gives_each_replica_its_ordinal() {
        assert_eq!(ordinal_of("commerce-precision-worker-12"), Some(12));
        assert_eq!(ordinal_of("laptop"), None);
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
        std::fs::write(file.path(), "pipeline = \"a.yaml\"\nordinal = 3").expect("written");
        let flags = Flags { settings: Some(file.path().into()), ordinal: Some(4), ..Flags::default() };
        let settings = Settings::load(&flags).expect("valid");
        assert_eq!((settings.pipeline.to_str(), settings.replica()), (Some("a.yaml"), 4));
        assert_eq!(settings.transactional_id("commerce", "precision"), "commerce.precision.4");
    }
}
