//! Logs and metrics of a process: set up once, before anything else happens.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use twinlane_metric::{Kind, Metric};

use crate::{
    metric_names, metrics_page,
    settings::{self, LogFormat},
};

/// Log lines to standard error; `RUST_LOG` selects. By default `info`, without what the model runtime's bindings
/// tell about themselves at each start.
pub(crate) fn logs(format: LogFormat) {
    let filter = settings::log_filter()
        .and_then(|f| EnvFilter::try_new(f).ok())
        .unwrap_or_else(|| EnvFilter::new("info,ort=warn"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(settings::coloured())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// Installs the Prometheus recorder, with every metric's help text and buckets.
pub(crate) fn metrics() -> anyhow::Result<PrometheusHandle> {
    let mut builder = PrometheusBuilder::new();
    for metric in metrics_page::metrics() {
        if let Kind::Histogram(bounds) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), bounds)?;
        }
    }
    let handle = builder.install_recorder()?;
    metrics_page::metrics().for_each(Metric::describe);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!(metric_names::START_TIME).set(started.as_secs_f64());
    Ok(handle)
}

/// Says what runs.
pub(crate) fn runs(service: &str, pipeline: &str) {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("service", service), ("pipeline", pipeline)];
    gauge!(metric_names::BUILD_INFO, &labels.map(|(name, value)| (name, value.to_owned()))).set(1.0);
}

/// Sets the gauge of the process's memory, where the system tells it as Linux does.
pub(crate) fn measure_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(bytes) = resident(&status) {
        gauge!(metric_names::MEMORY).set(bytes as f64);
    }
}

/// From the line `VmRSS:     123456 kB`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::resident;

    #[test]
    fn memory_is_read_from_what_linux_says_of_a_process() {
        assert_eq!(resident("VmPeak:\t  900 kB\nVmRSS:\t  123 kB\nThreads:\t7\n"), Some(123 * 1024));
        assert_eq!(resident(""), None);
    }
}
