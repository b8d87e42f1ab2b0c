//! The admin port: Prometheus metrics and health.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use twinlane_runtime::StageState;

use crate::{registry, reload::Reload, telemetry};

/// What the admin port reports on.
pub(crate) struct Facts {
    pub(crate) metrics: PrometheusHandle,
    /// Fixed facts: service, pipeline, models.
    pub(crate) about: Value,
    /// What runs, as `twinlane check` prints it.
    pub(crate) plan: Vec<String>,
    /// The schema registry, if there is one.
    pub(crate) registry: Option<Arc<registry::State>>,
    /// Once the models are warm and stages start.
    pub(crate) running: OnceLock<Running>,
}

/// What runs.
pub(crate) struct Running {
    pub(crate) stages: Vec<(String, Arc<StageState>)>,
    /// Where models run.
    pub(crate) reload: Option<Arc<Reload>>,
}

/// Serves until the process ends. Returns the address that was bound.
pub(crate) async fn serve(address: SocketAddr, facts: Arc<Facts>) -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| {
        anyhow::anyhow!("cannot listen on {address} for metrics and health: {e}; choose another --admin-port")
    })?;
    let bound = listener.local_addr()?;
    let upkeep = facts.metrics.clone();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        loop {
            every.tick().await;
            // Histograms buffer their samples until somebody drains them.
            upkeep.run_upkeep();
            telemetry::measure_memory();
        }
    });
    let routes = Router::new()
        .route("/metrics", get(async |State(facts): State<Arc<Facts>>| facts.metrics.render()))
        .route("/health/live", get(async || "live\n"))
        .route("/health/startup", get(startup))
        .route("/health/ready", get(ready))
        .route("/status", get(status))
        .with_state(facts);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the admin port stopped");
        }
    });
    Ok(bound)
}

async fn startup(State(facts): State<Arc<Facts>>) -> StatusCode {
    as_status(facts.running.get().is_some())
}

/// Ready: models warm, the schema registry known if there is one, every stage in its group, be it with zero partitions,
/// brokers answering, and none of its partitions held because nearly all of its records became dead letters. The body says
/// what is not; and, with those that run all being well, which of
/// them run on another device than the first of their list, and why the last change of models was refused.
async fn ready(State(facts): State<Arc<Facts>>) -> (StatusCode, String) {
    let mut reasons = Vec::new();
    let running = facts.running.get();
    if running.is_none() {
        reasons.push("still starting: topics are looked at, models loaded and warmed up".to_owned());
    }
    reasons.extend(facts.registry.as_ref().and_then(|registry| registry.unknown()));
    for (name, stage) in running.iter().flat_map(|running| &running.stages) {
        if !stage.joined.load(Ordering::Acquire) {
            reasons.push(format!("{name}: not in its group"));
        }
        if stage.progress.is_cut_off() {
            reasons.push(format!("{name}: no Kafka broker answers"));
        }
        let held = stage.held.load(Ordering::Acquire);
        if held > 0 {
            reasons.push(format!("{name}: {held} partitions held, their dead letters are past the limit"));
        }
    }
    let status = as_status(reasons.is_empty());
    if reasons.is_empty() {
        reasons.push("ready".to_owned());
    }
    let reload = running.and_then(|running| running.reload.as_ref());
    if let Some(reload) = reload {
        reasons.extend(reload.fallen_back());
    }
    if let Some(why) = reload.and_then(|reload| reload.refused()) {
        reasons.push(format!("the last change of models was refused: {why}"));
    }
    (status, reasons.join("\n") + "\n")
}

async fn status(State(facts): State<Arc<Facts>>) -> Json<Value> {
    let running = facts.running.get();
    let stages: Vec<_> = running
        .iter()
        .flat_map(|running| &running.stages)
        .map(|(name, state)| {
            let positions = state.progress.positions().into_iter().map(|(at, position)| {
                json!({
                    "topic": at.topic,
                    "partition": at.partition,
                    "committed": position.committed,
                    "lag": position.lag,
                })
            });
            json!({
                "stage": name,
                "joined": state.joined.load(Ordering::Acquire),
                "partitions": state.partitions.load(Ordering::Acquire),
                "halted_partitions": state.halted.load(Ordering::Acquire),
                "held_partitions": state.held.load(Ordering::Acquire),
                "brokers_answer": !state.progress.is_cut_off(),
                "positions": positions.collect::<Vec<_>>(),
            })
        })
        .collect();
    let models = running.and_then(|running| running.reload.as_ref()).map(|reload| reload.status());
    let registry = facts.registry.as_ref().map(|registry| registry.status());
    Json(json!({
        "about": facts.about, "stages": stages, "models": models, "registry": registry, "plan": facts.plan,
    }))
}

fn as_status(fine: bool) -> StatusCode {
    if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
