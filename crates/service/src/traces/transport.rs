//! Carries the exporter's requests over HTTP or HTTPS. It blocks; the exporter has a thread of its own.

use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
};
use twinlane_registry::Carrier;

use crate::settings::variable;

/// The standard's variable for whom a client believes; the exporter leaves it to its transport.
const AUTHORITIES: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";

#[derive(Debug)]
pub(super) struct Transport(Carrier);

impl Transport {
    pub(super) fn new(otlp: &str) -> Result<Self, String> {
        if !otlp.starts_with("http://") && !otlp.starts_with("https://") {
            return Err(format!("`otlp` is `{otlp}`; it is an address like http://localhost:4318"));
        }
        let authorities = variable(AUTHORITIES)
            .map(|file| std::fs::read(&file).map_err(|error| format!("{AUTHORITIES} {file}: {error}")))
            .transpose()?;
        let secure = otlp.starts_with("https://");
        Carrier::new(AUTHORITIES, authorities.as_deref(), secure, limit()).map(Self)
    }
}

/// How long one request may take, by the standard's variables.
fn limit() -> Duration {
    let told = |name| variable(name)?.parse().ok().map(Duration::from_millis);
    told(OTEL_EXPORTER_OTLP_TRACES_TIMEOUT)
        .or_else(|| told(OTEL_EXPORTER_OTLP_TIMEOUT))
        .unwrap_or(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT)
}

#[async_trait]
impl HttpClient for Transport {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.0.send(request.map(|body| body.to_vec()))?;
        Ok(response.map(Bytes::from))
    }
}
