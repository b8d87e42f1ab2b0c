//! Traces of sampled events, in OpenTelemetry's terms and by its API alone: whoever runs a stage says where they go.
//!
//! ```text
//!  the producer's span ─► route (router) ─► score (worker) ─► whoever reads the answer
//!                            └ receive, send   └ receive, infer, send
//! ```
//!
//! An event's own span reaches from its arrival to the commit of its window, and its context travels on its output as
//! `traceparent`. What is done for many events at once (`receive`, `infer`, `send`) is one span in the trace of the
//! first sampled one, with links to the others.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use opentelemetry::{
    Context, KeyValue,
    global::{self, BoxedSpan, BoxedTracer},
    propagation::{Extractor, Injector},
    trace::{Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use twinlane_delivery::{Run, Ticket, Window};
use twinlane_kafka::Outgoing;
use twinlane_record::{Coordinates, Envelope, Headers, Verdict, headers};

/// A model run that has ended, as traces tell it.
#[derive(Debug)]
pub struct ModelRun<'r> {
    /// The task.
    pub task: &'r str,
    /// Digest of the model's file.
    pub model_digest: &'r str,
    /// The device that ran it.
    pub device: &'r str,
    /// Of the batch, in its order.
    pub tickets: Vec<Ticket>,
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub elapsed: Duration,
}

/// Which events are traced.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// Topics on which traces begin: those that users write. Elsewhere an event without a sampled parent was not
    /// sampled at its source.
    pub roots: HashSet<Arc<str>>,
    /// The share of their events that begin a trace where their producer has not, 0 to 1. By coordinates, so that an
    /// event that is read again is traced again.
    pub share: f64,
}

impl Sampling {
    fn begins(&self, at: &Coordinates) -> bool {
        if self.share <= 0.0 || !self.roots.contains(&at.topic) {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        at.hash(&mut hasher);
        (hasher.finish() as f64) < self.share * u64::MAX as f64
    }
}

/// The spans of one stage.
pub(crate) struct Spans {
    tracer: BoxedTracer,
    /// Of an event's own span: what this stage does.
    name: &'static str,
    group: Arc<str>,
    sampling: Sampling,
    open: HashMap<Ticket, Open>,
    /// What came in this turn.
    received: Option<Received>,
    sending: Option<BoxedSpan>,
}

/// A sampled event that is under way.
struct Open {
    at: Coordinates,
    arrived: SystemTime,
    parent: Context,
    /// Begins once it is clear that the event is this stage's.
    span: Option<BoxedSpan>,
}

struct Received {
    began: SystemTime,
    ended: SystemTime,
    records: usize,
    tickets: Vec<Ticket>,
}

impl Spans {
    pub(crate) fn new(tracer: BoxedTracer, name: &'static str, group: &str, sampling: Sampling) -> Self {
        let (group, open) = (group.into(), HashMap::new());
        Self { tracer, name, group, sampling, open, received: None, sending: None }
    }

    /// Records have come from the consumer since `began` and were handed on.
    pub(crate) fn received(&mut self, began: SystemTime, records: usize, tickets: Vec<Ticket>) {
        self.received = Some(Received { began, ended: SystemTime::now(), records, tickets });
    }

    /// Whether an event is sampled; if it is, its span can begin.
    pub(crate) fn arrives(&mut self, ticket: Ticket, record: &Envelope) -> bool {
        let parent = global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), &Carried(&record.headers))
        });
        let is_sampled = match parent.has_active_span() {
            true => parent.span().span_context().is_sampled(),
            false => self.sampling.begins(&record.at),
        };
        if is_sampled {
            let open = Open { at: record.at.clone(), arrived: SystemTime::now(), parent, span: None };
            self.open.insert(ticket, open);
        }
        is_sampled
    }

    /// At the end of a turn: what came in it and was not passed by is this stage's.
    pub(crate) fn turn(&mut self) {
        let Some(received) = self.received.take() else { return };
        let members: Vec<_> = received.tickets.iter().filter_map(|ticket| self.begun(*ticket)).collect();
        let attributes = vec![KeyValue::new("messaging.batch.message_count", received.records as i64)];
        if let Some(mut span) =
            self.batch("receive", SpanKind::Consumer, received.began, attributes, &members)
        {
            span.end_with_timestamp(received.ended);
        }
    }

    /// The context of an event's span, which begins with its arrival.
    fn begun(&mut self, ticket: Ticket) -> Option<SpanContext> {
        let Open { at, arrived, parent, span } = self.open.get_mut(&ticket)?;
        let span = span.get_or_insert_with(|| {
            let builder = SpanBuilder::from_name(format!("{} {}", self.name, at.topic))
                .with_kind(SpanKind::Consumer)
                .with_start_time(*arrived)
                .with_attributes([
                    KeyValue::new("messaging.system", "kafka"),
                    KeyValue::new("messaging.operation.type", "process"),
                    KeyValue::new("messaging.destination.name", at.topic.clone()),
                    KeyValue::new("messaging.destination.partition.id", at.partition.to_string()),
                    KeyValue::new("messaging.kafka.offset", at.offset),
                    KeyValue::new("messaging.consumer.group.name", self.group.clone()),
                ]);
            self.tracer.build_with_context(builder, parent)
        });
        Some(span.span_context().clone())
    }

    /// A model has run a batch.
    pub(crate) fn ran(&mut self, run: &ModelRun<'_>) {
        let began = SystemTime::now() - run.started.elapsed();
        let members: Vec<_> = run.tickets.iter().filter_map(|ticket| self.begun(*ticket)).collect();
        let size = run.tickets.len() as i64;
        let attributes = vec![
            KeyValue::new("twinlane.task", run.task.to_owned()),
            KeyValue::new("twinlane.model.digest", run.model_digest.to_owned()),
            KeyValue::new("twinlane.device", run.device.to_owned()),
            KeyValue::new("twinlane.batch.events", size),
        ];
        if let Some(mut span) = self.batch("infer", SpanKind::Internal, began, attributes, &members) {
            span.end_with_timestamp(began + run.elapsed);
        }
        for ticket in &run.tickets {
            if let Some(span) = self.open.get_mut(ticket).and_then(|open| open.span.as_mut()) {
                let attributes = vec![KeyValue::new("twinlane.batch.events", size)];
                span.add_event_with_timestamp("model run began", began, attributes);
                span.add_event_with_timestamp("model run ended", began + run.elapsed, Vec::new());
            }
        }
    }

    /// An event has its verdict; its output carries the context on.
    pub(crate) fn settled(&mut self, ticket: Ticket, verdict: Verdict, output: Option<&mut Outgoing>) {
        if verdict == Verdict::Elsewhere {
            self.open.remove(&ticket);
            return;
        }
        let Some(context) = self.begun(ticket) else { return };
        let Some(span) = self.open.get_mut(&ticket).and_then(|open| open.span.as_mut()) else { return };
        let word = match verdict {
            Verdict::Routed => "routed",
            Verdict::Scored => "scored",
            Verdict::Expired => "expired",
            Verdict::Skipped | Verdict::Elsewhere => "skipped",
            Verdict::DeadLettered(reason) => {
                span.set_status(Status::error(reason.as_str()));
                "dead-lettered"
            }
        };
        span.set_attribute(KeyValue::new("twinlane.verdict", word));
        let Some(output) = output else { return };
        for (name, header) in [("twinlane.route", headers::ROUTE), ("twinlane.lane", headers::LANE)] {
            if let Some(value) = output.headers.text(header) {
                span.set_attribute(KeyValue::new(name, value.to_owned()));
            }
        }
        let context = Context::new().with_remote_span_context(context);
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut Carrying(&mut output.headers));
        });
    }

    /// A window goes into a transaction.
    pub(crate) fn sends(&mut self, window: &Window<Outgoing>) {
        let within = self.open.values().filter(|open| open.is_within(window));
        let spans = within.filter_map(|open| open.span.as_ref());
        let members: Vec<_> = spans.map(|span| span.span_context().clone()).collect();
        let attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.batch.message_count", window.outputs().count() as i64),
            KeyValue::new("twinlane.window.events", window.records() as i64),
        ];
        self.sending = self.batch("send", SpanKind::Producer, SystemTime::now(), attributes, &members);
    }

    /// Its transaction has committed, and with that its events are done: a span ends when it is dropped.
    pub(crate) fn committed(&mut self, window: &Window<Outgoing>) {
        self.sending = None;
        self.open.retain(|_, open| !open.is_within(window));
    }

    /// Its transaction has not.
    pub(crate) fn failed(&mut self, how: &'static str) {
        if let Some(mut span) = self.sending.take() {
            span.set_status(Status::error(how));
        }
    }

    /// Ends what is not this stage's any more.
    pub(crate) fn forget_stale(&mut self, current: &dyn Fn(Ticket) -> bool) {
        for (_, open) in self.open.extract_if(|ticket, _| !current(*ticket)) {
            if let Some(mut span) = open.span {
                span.set_status(Status::error("revoked before it was committed"));
            }
        }
    }

    /// A span for what is done for several events at once, in the trace of the first one.
    fn batch(
        &self,
        name: &'static str,
        kind: SpanKind,
        began: SystemTime,
        attributes: Vec<KeyValue>,
        members: &[SpanContext],
    ) -> Option<BoxedSpan> {
        let (first, others) = members.split_first()?;
        let links = others.iter().map(|context| Link::with_context(context.clone())).collect();
        let builder = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_start_time(began)
            .with_attributes(attributes)
            .with_links(links);
        let parent = Context::new().with_remote_span_context(first.clone());
        Some(self.tracer.build_with_context(builder, &parent))
    }
}

impl Open {
    fn is_within(&self, window: &Window<Outgoing>) -> bool {
        let of_partition = |run: &&Run<Outgoing>| {
            run.partition.partition == self.at.partition && run.partition.topic == self.at.topic
        };
        window.runs.iter().find(of_partition).is_some_and(|run| self.at.offset < run.next_offset())
    }
}

/// Headers that came with a trace context.
struct Carried<'h>(&'h Headers);

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.text(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.0.iter().map(|header| &*header.name).collect()
    }
}

/// Headers that take a trace context along, in the place of the one that came.
struct Carrying<'h>(&'h mut Headers);

impl Injector for Carrying<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.0.retain(|header| &*header.name != key);
        if !value.is_empty() {
            self.0.push(key.to_owned(), value);
        }
    }
}
