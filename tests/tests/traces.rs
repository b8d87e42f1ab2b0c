//! Traces of sampled events, as a collector receives them: from the producer's span through router and worker to the answer.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, status::StatusCode},
};
use prost::Message as _;
use serde_json::json;
use twinlane_testkit::{
    client::{self, Outgoing, Producer},
    wait,
};
use twinlane_tests::Shop;

const LIMIT: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(10);

/// A span with the name of the service that sent it.
#[derive(Clone, Debug)]
struct Seen {
    service: String,
    span: Span,
}

impl Seen {
    fn text(&self, name: &str) -> Option<String> {
        text_of(&self.span.attributes, name)
    }
}

fn text_of(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?;
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

/// What speaks OTLP over HTTP, as far as an exporter needs it.
struct Collector {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let all = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = all.clone();
                std::thread::spawn(move || serve(stream, &all));
            }
        });
        Self { address, seen }
    }

    fn spans(&self) -> Vec<Seen> {
        self.seen.lock().expect("no holder panics").clone()
    }
}

/// Requests of one connection until it ends.
fn serve(stream: TcpStream, all: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        assert!(first.starts_with("POST /v1/traces "), "{first}");
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a header");
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a header");
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        let request = ExportTraceServiceRequest::decode(&*body).expect("OTLP");
        for resource in request.resource_spans {
            let attributes = resource.resource.expect("says who sends").attributes;
            let service = text_of(&attributes, "service.name").expect("a name");
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let seen = spans.map(|span| Seen { service: service.clone(), span });
            all.lock().expect("no holder panics").extend(seen);
        }
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("answered");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Orders without a trace context, one that its producer sampled, one that it did not, and one that no route takes.
fn produce(shop: &Shop) {
    let producer = Producer::new(shop.bootstrap()).expect("a producer");
    let topic = shop.topic("events");
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    let order = json!({ "kind": "order", "id": 1, "recent": [{ "amount": 1.0, "age_s": 1.0 }] }).to_string();
    let unheard = json!({ "kind": "unheard of" }).to_string();
    let events: [(&str, Option<&str>); 4] =
        [(&order, None), (&order, Some(&sampled)), (&order, Some(UNSAMPLED)), (&unheard, Some(&sampled))];
    for (value, context) in events {
        let mut headers = vec![("tenant", &b"a"[..])];
        headers.extend(context.map(|context| ("traceparent", context.as_bytes())));
        let value = Some(value.as_bytes());
        let event =
            Outgoing { topic: &topic, partition: Some(0), value, headers: &headers, ..Outgoing::default() };
        producer.send(&event, ()).expect("accepted");
    }
    producer.flush().expect("delivered");
}

/// Coordinates of each event → the contexts that its answer or dead letter carries.
fn contexts(shop: &Shop, topic: &str) -> HashMap<String, Vec<String>> {
    let mut found = HashMap::new();
    client::read_to_end(shop.bootstrap(), &shop.topic(topic), |record| {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = record.headers();
        let contexts = headers.iter().filter(|(name, _)| *name == "traceparent");
        let contexts = contexts.map(|(_, value)| text(value.expect("a value"))).collect();
        found.insert(text(record.header("twinlane-source").expect("a source")), contexts);
    })
    .expect("reads");
    found
}

#[test]
fn a_sampled_event_is_one_trace_from_its_producer_to_its_answer() {
    let (shop, collector) = (Shop::open(), Collector::start());
    let settings = format!("[traces]\notlp = \"{}\"\nsample = 0.0", collector.address);
    let (mut router, _) = shop.start_with("router", 0, &settings);
    let (mut worker, _) = shop.start_with("precision-worker", 0, &settings);
    produce(&shop);
    let answered =
        || (shop.committed("scores.orders") == 3 && shop.committed("dead-letters") == 1).then_some(());
    wait::until(LIMIT, answered).expect("answered");
    // What they have not sent yet, they send when they stop.
    for service in [&mut router, &mut worker] {
        assert_eq!(service.stop(STOP), Some(0), "{}", service.output());
    }

    let spans = collector.spans();
    let of_trace = |seen: &&Seen| hex(&seen.span.trace_id) == TRACE;
    assert_eq!(spans.iter().filter(of_trace).count(), spans.len(), "nothing else was sampled: {spans:#?}");
    let named = |name: &str, offset: &str| {
        let found: Vec<_> = spans
            .iter()
            .filter(|seen| {
                seen.span.name == name && seen.text("messaging.kafka.offset").as_deref() == Some(offset)
            })
            .collect();
        assert_eq!(found.len(), 1, "{name} of {offset} in {spans:#?}");
        found[0]
    };
    let route = named(&format!("route {}", shop.topic("events")), "1");
    assert_eq!((&*route.service, hex(&route.span.parent_span_id)), ("twinlane-router", PARENT.to_owned()));
    assert_eq!(route.text("twinlane.verdict").as_deref(), Some("routed"));
    assert_eq!(route.text("twinlane.lane").as_deref(), Some("precision"));
    let score = named(&format!("score {}", shop.topic("precision.order-risk")), "1");
    assert_eq!(score.service, "twinlane-precision-worker");
    assert_eq!(score.span.parent_span_id, route.span.span_id, "the worker goes on where the router was");
    assert_eq!(score.text("twinlane.verdict").as_deref(), Some("scored"));
    let refused = named(&format!("route {}", shop.topic("events")), "3");
    assert_eq!(refused.text("twinlane.verdict").as_deref(), Some("dead-lettered"));
    let status = refused.span.status.as_ref().expect("a status");
    assert_eq!((status.code(), &*status.message), (StatusCode::Error, "no_route"));

    // What is done for several at once hangs below the first sampled one.
    let below = |parent: &Seen, name: &str| {
        let is_child =
            |seen: &&Seen| seen.span.parent_span_id == parent.span.span_id && seen.span.name == name;
        spans.iter().find(is_child).unwrap_or_else(|| panic!("no `{name}` below {parent:?} in {spans:#?}"))
    };
    for name in ["receive", "send"] {
        below(route, name);
        below(score, name);
    }
    let infer = below(score, "infer");
    assert_eq!(infer.text("twinlane.task").as_deref(), Some("order-risk"));
    assert!(infer.span.start_time_unix_nano >= score.span.start_time_unix_nano);
    assert!(infer.span.end_time_unix_nano <= score.span.end_time_unix_nano, "it ends with its commit");

    // Whoever reads the answer goes on from the worker; what was not sampled keeps what its producer wrote.
    let answers = contexts(&shop, "scores.orders");
    let at = |offset: u32| format!("{}/0/{offset}", shop.topic("events"));
    assert_eq!(answers[&at(0)], [""; 0]);
    assert_eq!(answers[&at(1)], [format!("00-{TRACE}-{}-01", hex(&score.span.span_id))]);
    assert_eq!(answers[&at(2)], [UNSAMPLED]);
    let letters = contexts(&shop, "dead-letters");
    assert_eq!(letters[&at(3)], [format!("00-{TRACE}-{}-01", hex(&refused.span.span_id))]);
}

#[test]
fn a_share_of_the_events_begins_traces_that_both_services_go_on_with_and_a_collector_that_is_away_costs_nothing()
 {
    const EVENTS: usize = 2_000;
    let (shop, collector) = (Shop::open(), Collector::start());
    let away = "[traces]\notlp = \"http://127.0.0.1:9\"\nsample = 1.0";
    let (mut throughput, _) = shop.start_with("throughput-worker", 0, away);
    let settings = format!("[traces]\notlp = \"{}\"\nsample = 0.1", collector.address);
    let (mut router, _) = shop.start_with("router", 0, &settings);
    let (mut worker, _) = shop.start_with("precision-worker", 0, &settings);
    shop.flood("events", r#"{"kind":"order","id":1,"recent":[{"amount":1.0,"age_s":1.0}]}"#, EVENTS);
    shop.flood("events", r#"{"kind":"click","id":2,"a":1,"b":1.5,"c":-2}"#, 10);
    let answered =
        || (shop.committed("scores.orders") == EVENTS && shop.committed("scores.clicks") == 10).then_some(());
    wait::until(LIMIT, answered).expect("answered");
    for service in [&mut router, &mut worker, &mut throughput] {
        assert_eq!(service.stop(STOP), Some(0), "{}", service.output());
    }
    let spans = collector.spans();
    let traces = |name: &str| {
        let named = spans.iter().filter(|seen| seen.span.name == name);
        let traces: std::collections::BTreeSet<_> = named.map(|seen| hex(&seen.span.trace_id)).collect();
        traces
    };
    let (routed, scored) = (
        traces(&format!("route {}", shop.topic("events"))),
        traces(&format!("score {}", shop.topic("precision.order-risk"))),
    );
    // 201 of 2,010 are expected; 13.5 is their standard deviation.
    assert!((130..=270).contains(&routed.len()), "{} of {EVENTS} events were sampled", routed.len());
    assert!(scored.is_subset(&routed), "the worker samples nothing by itself");
    assert!(
        routed.len() - scored.len() <= 10,
        "clicks alone are not scored here: {} {}",
        routed.len(),
        scored.len()
    );
}
