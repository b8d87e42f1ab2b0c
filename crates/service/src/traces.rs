//! Where traces go: OTLP over HTTP, in batches from a thread of its own, off by default.

mod transport;

use std::time::Duration;

use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Failure;
use transport::Transport;

/// The `[traces]` section: OpenTelemetry spans of sampled events.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Address of an OTLP receiver that speaks HTTP, e.g. `http://localhost:4318`, or HTTPS. Without it nothing is traced, at no cost.
    /// The standard's own variables (`OTEL_EXPORTER_OTLP_HEADERS` and others) say the rest.
    pub otlp: Option<String>,
    /// Share of the events without a `traceparent` header that begin a trace, 0 to 1. One that comes with the header is
    /// traced if its producer sampled it.
    pub sample: f64,
}

impl Default for Traces {
    fn default() -> Self {
        Self { otlp: None, sample: 0.01 }
    }
}

/// Spans on their way; they are sent when this is dropped, as far as the receiver takes them at once.
pub(crate) struct Sending(Option<SdkTracerProvider>);

const FAREWELL: Duration = Duration::from_secs(2);

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown_with_timeout(FAREWELL)
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

impl Traces {
    /// Makes this process's spans go there. Neither called nor dropped within tokio: the exporter blocks.
    pub(crate) fn start(
        &self,
        service: &'static str,
        pipeline: &str,
        replica: u32,
    ) -> Result<Sending, Failure> {
        let Some(otlp) = &self.otlp else { return Ok(Sending(None)) };
        let invalid = |why: String| Failure::Invalid(format!("settings: traces: {why}"));
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(invalid(format!("`sample` is {}; it is a share, from 0 to 1", self.sample)));
        }
        let endpoint = format!("{}/v1/traces", otlp.trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&endpoint)
            .with_http_client(Transport::new(otlp).map_err(invalid)?)
            .build()
            .map_err(|error| {
                invalid(format!("`otlp` is `{otlp}`: {error}; it is an address like http://localhost:4318"))
            })?;
        let resource = Resource::builder()
            .with_service_name(format!("twinlane-{service}"))
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", replica.to_string()),
                KeyValue::new("twinlane.pipeline", pipeline.to_owned()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            // A stage begins spans of events alone that it has sampled itself.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .build();
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_tracer_provider(provider.clone());
        tracing::info!(endpoint, sample = self.sample, "traces are sent");
        Ok(Sending(Some(provider)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(otlp: &str, sample: f64) -> String {
        let traces = Traces { otlp: Some(otlp.into()), sample };
        traces.start("router", "shop", 0).err().expect("refused").to_string()
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert!(refused("http://localhost:4318", 1.5).contains("from 0 to 1"));
        for wrong in ["http://not an address", "localhost:4318", "ftp://localhost"] {
            let refused = refused(wrong, 0.5);
            assert!(refused.contains("http://localhost:4318"), "{refused}");
        }
    }
}
