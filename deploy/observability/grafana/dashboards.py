#!/usr/bin/env python3
"""Makes Twinlane's dashboards: `dashboards.py` writes them, `dashboards.py --check` fails where one differs.

A panel is a title, what it tells, and queries. Everything else of Grafana's JSON is the same for all and stands below.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent / "dashboards"
RATE = "$__rate_interval"


def rate(metric, labels=""):
    return f"rate({metric}{{{labels}}}[{RATE}])"


def quantile(q, metric, by, labels=""):
    return f"histogram_quantile({q}, sum by (le, {by}) ({rate(metric + '_bucket', labels)}))"


def average(metric, by, labels=""):
    sums, counts = (f"sum by ({by}) ({rate(metric + part, labels)})" for part in ("_sum", "_count"))
    return f"{sums} / {counts}"


def quantiles(metric, by, labels="", of=(0.5, 0.99)):
    """The median and the tail, as two queries."""
    return [(quantile(q, metric, by, labels), f"{{{{{by}}}}} p{q * 100:g}") for q in of]


def panel(title, tells, queries, unit="short", kind="timeseries", width=8, height=8, **more):
    return dict(title=title, tells=tells, queries=queries, unit=unit, kind=kind, width=width, height=height, **more)


def stat(title, tells, queries, unit="short", **more):
    return panel(title, tells, queries, unit, kind="stat", width=more.pop("width", 4), height=4, **more)


def row(title):
    return dict(title=title, kind="row", width=24, height=1)


def variable(name, query, label):
    """All of what Prometheus knows, unless some are chosen. Without an `allValue`: all are those of the query, no others."""
    return dict(
        name=name, label=label, type="query", datasource=DATASOURCE, refresh=2, sort=1, multi=True, includeAll=True,
        query=dict(query=query, refId=name), definition=query, current=dict(text=["All"], value=["$__all"]),
    )


def choice(name, label, options):
    listed = [dict(text=option, value=option, selected=at == 0) for at, option in enumerate(options)]
    return dict(
        name=name, label=label, type="custom", query=",".join(options), options=listed, current=listed[0], multi=False,
        includeAll=False,
    )


DATASOURCE = dict(type="prometheus", uid="${datasource}")
CHOOSE_DATASOURCE = dict(name="datasource", label="Prometheus", type="datasource", query="prometheus", hide=0)
JOB = variable("job", 'label_values(twinlane_build_info, job)', "Job")
HERE = 'job=~"$job"'
WORKERS = f'{HERE}, stage!~"router.*"'

OVERVIEW = [
    stat("Arriving", "Events that workers read, per second.", [(f"sum({rate('twinlane_events_in_total', WORKERS)})", "")], "ops"),
    stat("Answered", "Events that a model answered, per second.", [(f"sum({rate('twinlane_events_scored_total', WORKERS)})", "")], "ops"),
    stat("Slowest lane's p99", "From an event's own time to its committed answer.",
         [(f"max({quantile(0.99, 'twinlane_event_latency_seconds', 'stage', WORKERS)})", "")], "s"),
    stat("Waiting", "Records between committed offsets and the ends of logs, all stages.", [(f"sum(twinlane_lag_records{{{HERE}}})", "")]),
    stat("Dead letters", "Share of what workers read.",
         [(f"sum({rate('twinlane_dead_letters_total', WORKERS)}) / sum({rate('twinlane_events_in_total', WORKERS)})", "")],
         "percentunit", steps=[(None, "green"), (0.01, "yellow"), (0.05, "red")]),
    stat("Alerts that fire", "Of Twinlane's own rules.",
         [('count(ALERTS{alertname=~"Twinlane.*", alertstate="firing"}) or vector(0)', "")], steps=[(None, "green"), (1, "red")]),
    row("Both lanes"),
    panel("Answered", "Events that a model answered, per second.",
          [(f"sum by (stage) ({rate('twinlane_events_scored_total', WORKERS)})", "{{stage}}")], "ops"),
    panel("Latency", "From an event's own time to its committed answer.",
          quantiles("twinlane_event_latency_seconds", "stage", WORKERS), "s"),
    panel("Waiting", "Lag of each stage; 1 for each idle partition of a lane's topic is the last transaction's marker.",
          [(f"sum by (stage) (twinlane_lag_records{{{HERE}}})", "{{stage}}")]),
    panel("Arriving", "Records that each stage reads, per second. Each stage of the router reads every event.",
          [(f"sum by (stage) ({rate('twinlane_events_in_total', HERE)})", "{{stage}}")], "ops"),
    panel("Dead letters", "Share of what each stage reads.",
          [(f"sum by (stage) ({rate('twinlane_dead_letters_total', HERE)}) / sum by (stage) ({rate('twinlane_events_in_total', HERE)})",
            "{{stage}}")], "percentunit"),
    panel("Budget in use", "What is in flight against what may be: records or bytes, whichever is more. At 100 % nothing is read.",
          [(f"max by (stage) (twinlane_in_flight_records{{{HERE}}} / twinlane_in_flight_limit_records)"
            f" > max by (stage) (twinlane_in_flight_bytes{{{HERE}}} / twinlane_in_flight_limit_bytes)"
            f" or max by (stage) (twinlane_in_flight_bytes{{{HERE}}} / twinlane_in_flight_limit_bytes)", "{{stage}}")],
          "percentunit", max=1),
    row("What runs"),
    panel("Versions", "What each process is.", [(f"twinlane_build_info{{{HERE}}}", "")], kind="table",
          columns=["instance", "service", "version", "pipeline"]),
    panel("Devices", "Where each task's model runs.", [(f"twinlane_device_in_use{{{HERE}}} == 1", "")], kind="table",
          columns=["instance", "task", "device"]),
    panel("Memory", "Resident memory of each process.", [(f"process_resident_memory_bytes{{{HERE}}}", "{{instance}}")], "bytes"),
]

LANE = f'{HERE}, stage="$lane"'
# Metrics of models know their task; the lane is that of the instances that have its stage.
IN_LANE = f'{HERE}, instance=~"$instance", task=~"$task"'
IN_DEPTH = [
    row("What comes and what becomes of it"),
    panel("Events", "Per second, by what became of them.",
          [(f"sum({rate('twinlane_events_in_total', LANE)})", "read")]
          + [(f"sum({rate(f'twinlane_events_{what}_total', LANE)})", what) for what in ("scored", "skipped", "expired")]
          + [(f"sum({rate('twinlane_dead_letters_total', LANE)})", "dead letters")], "ops"),
    panel("Latency", "From an event's own time to its committed answer.",
          quantiles("twinlane_event_latency_seconds", "stage", LANE, (0.5, 0.95, 0.99)), "s"),
    panel("Lag of each partition", "1 on an idle partition is the last transaction's marker.",
          [(f"sum by (topic, partition) (twinlane_lag_records{{{LANE}}})", "{{topic}}/{{partition}}")]),
    row("Where time goes"),
    panel("On average", "One after the other: age when read, decoding and encoding, waiting for a model, its run, waiting for a "
          "window, its transaction. Polls, batches and windows, not single events.",
          [(average("twinlane_step_seconds", "step", LANE), "{{step}}"),
           (average("twinlane_model_run_seconds", "task", IN_LANE), "run {{task}}"),
           (average("twinlane_transaction_seconds", "stage", LANE), "transaction")], "s"),
    panel("p99", "The same at the 99th percentile.",
          [(quantile(0.99, "twinlane_step_seconds", "step", LANE), "{{step}}"),
           (quantile(0.99, "twinlane_model_run_seconds", "task", IN_LANE), "run {{task}}"),
           (quantile(0.99, "twinlane_transaction_seconds", "stage", LANE), "transaction")], "s"),
    panel("Latency, spread", "How many events took how long.",
          [(f"sum by (le) (increase(twinlane_event_latency_seconds_bucket{{{LANE}}}[{RATE}]))", "{{le}}")], "s", kind="heatmap"),
    row("Models"),
    panel("Waiting for a model", "Records in the queue of each task.",
          [(f"sum by (task) (twinlane_queue_records{{{IN_LANE}}})", "{{task}}")]),
    panel("Batches", "Events per batch.", quantiles("twinlane_batch_size", "task", IN_LANE)),
    panel("Model runs", "How long a batch takes.", quantiles("twinlane_model_run_seconds", "task", IN_LANE), "s"),
    panel("Padding", "Share of the numbers handed to a model that is padding.",
          [(f"sum by (task) ({rate('twinlane_padding_values_total', IN_LANE)}) / sum by (task) ({rate('twinlane_packed_values_total', IN_LANE)})",
            "{{task}}")], "percentunit", max=1),
    panel("Device", "Where the model of each task runs.",
          [(f"twinlane_device_in_use{{{IN_LANE}}} == 1", "")], kind="table", columns=["instance", "task", "device"]),
    panel("Other models", "Changes of models while workers run.",
          [(f'sum by (outcome) (increase(twinlane_model_reloads_total{{{HERE}, instance=~"$instance"}}[{RATE}]))', "{{outcome}}")]),
    row("Budget and windows"),
    panel("In flight", "Records that arrived and are not committed, and how many may be.",
          [(f"sum(twinlane_in_flight_records{{{LANE}}})", "in flight"), (f"sum(twinlane_in_flight_limit_records{{{LANE}}})", "limit")]),
    panel("In flight, bytes", "The same in bytes.",
          [(f"sum(twinlane_in_flight_bytes{{{LANE}}})", "in flight"), (f"sum(twinlane_in_flight_limit_bytes{{{LANE}}})", "limit")], "bytes"),
    panel("Budget spent", "Share of replicas that read nothing because of it.",
          [(f"avg(twinlane_budget_spent{{{LANE}}})", "spent")], "percentunit", max=1),
    panel("Windows", "Records per transaction.", quantiles("twinlane_window_records", "stage", LANE)),
    panel("Transactions", "From the first produce to the end of the commit.", quantiles("twinlane_transaction_seconds", "stage", LANE), "s"),
    panel("Partitions", "Assigned to replicas, and of those the ones that are not read.",
          [(f"sum(twinlane_{what}_partitions{{{LANE}}})", what) for what in ("assigned", "halted", "held")]),
]

STAGE = f'{HERE}, stage=~"$stage"'
DELIVERY = [
    stat("Commits", "Per second.", [(f"sum({rate('twinlane_transaction_seconds_count', STAGE)})", "")], "ops"),
    stat("Aborts", "Within the last hour.", [(f"sum(increase(twinlane_transaction_aborts_total{{{STAGE}}}[1h]))", "")],
         steps=[(None, "green"), (1, "yellow")]),
    stat("Partitions not read", "Halted or held.",
         [(f"sum(twinlane_halted_partitions{{{STAGE}}}) + sum(twinlane_held_partitions{{{STAGE}}})", "")], steps=[(None, "green"), (1, "red")]),
    stat("Rebalances", "Assignments within the last hour.",
         [(f'sum(increase(twinlane_rebalances_total{{{STAGE}, kind="assigned"}}[1h]))', "")]),
    stat("Restarts", "Within the last hour.", [(f"sum(changes(process_start_time_seconds{{{HERE}}}[1h]))", "")],
         steps=[(None, "green"), (1, "yellow")]),
    stat("Waiting", "Lag of the chosen stages.", [(f"sum(twinlane_lag_records{{{STAGE}}})", "")]),
    row("Transactions"),
    panel("Commits", "Per second.", [(f"sum by (stage) ({rate('twinlane_transaction_seconds_count', STAGE)})", "{{stage}}")], "ops"),
    panel("How long they take", "From the first produce to the end of the commit.",
          quantiles("twinlane_transaction_seconds", "stage", STAGE), "s"),
    panel("Records", "Per transaction.", quantiles("twinlane_window_records", "stage", STAGE)),
    panel("Aborts by cause", "What was being done when it turned out that the transaction must end; `partitions_lost` comes from rebalances.",
          [(f"sum by (cause) (increase(twinlane_transaction_aborts_total{{{STAGE}}}[{RATE}]))", "{{cause}}")]),
    panel("Producers built anew", "After a fatal error; every partition is read again then.",
          [(f"sum by (stage) (increase(twinlane_producer_rebuilds_total{{{STAGE}}}[{RATE}]))", "{{stage}}")]),
    panel("Rebalances", "By kind.", [(f"sum by (kind) (increase(twinlane_rebalances_total{{{STAGE}}}[{RATE}]))", "{{kind}}")]),
    row("Lag and partitions"),
    panel("Lag", "Of each stage.", [(f"sum by (stage) (twinlane_lag_records{{{STAGE}}})", "{{stage}}")]),
    panel("The ten partitions furthest behind", "",
          [(f"topk(10, sum by (stage, topic, partition) (twinlane_lag_records{{{STAGE}}}))", "{{stage}} {{topic}}/{{partition}}")]),
    panel("Partitions", "Assigned, halted and held.",
          [(f"sum by (stage) (twinlane_{what}_partitions{{{STAGE}}})", f"{{{{stage}}}} {what}") for what in ("assigned", "halted", "held")]),
    row("What was not answered"),
    panel("Dead letters by reason", "Per second.",
          [(f"sum by (reason) ({rate('twinlane_dead_letters_total', STAGE)})", "{{reason}}")], "ops"),
    panel("Expired", "Records whose deadline had passed, per second.",
          [(f"sum by (stage) ({rate('twinlane_events_expired_total', STAGE)})", "{{stage}}")], "ops"),
    panel("Offsets outside of logs, and holds", "Each is a line in the log, too.",
          [(f"sum by (action) (increase(twinlane_offsets_out_of_log_total{{{STAGE}}}[{RATE}]))", "{{action}}"),
           (f"sum(increase(twinlane_partition_holds_total{{{STAGE}}}[{RATE}]))", "held")]),
]

# Tasks whose model runs on the chosen device.
ON_DEVICE = 'on (instance, task) group_left () (twinlane_device_in_use{job=~"$job", device="$device"} == 1)'


def on_device(metric):
    return f"{rate(metric, HERE)} * {ON_DEVICE}"


def device_quantiles(metric):
    return [(f"histogram_quantile({q}, sum by (le, task) ({on_device(metric + '_bucket')}))", f"{{{{task}}}} p{q * 100:g}")
            for q in (0.5, 0.99)]


GPU = [
    stat("Models on it", "How many, on how many processes.", [('sum(twinlane_device_in_use{job=~"$job", device="$device"})', "")], width=8),
    stat("Models that fell back", "To another device than the first of their list.", [(f"sum(twinlane_device_fallback{{{HERE}}})", "")],
         width=8, steps=[(None, "green"), (1, "red")]),
    stat("Answered on it", "Events per second.", [(f"sum({on_device('twinlane_batch_size_sum')})", "")], "ops", width=8),
    row("Runs"),
    panel("Answered", "Events per second.", [(f"sum by (task) ({on_device('twinlane_batch_size_sum')})", "{{task}}")], "ops"),
    panel("Model runs", "How long a batch takes, packing and copies included.", device_quantiles("twinlane_model_run_seconds"), "s"),
    panel("Batches", "Events per batch.", device_quantiles("twinlane_batch_size")),
    panel("Busy", "Share of time in which a model thread runs, by task; more than 100 % with several threads.",
          [(f"sum by (task) ({on_device('twinlane_model_run_seconds_sum')})", "{{task}}")], "percentunit"),
    panel("Captured runs", "Share of runs that are launched as a CUDA graph.",
          [(f'sum by (task) ({rate("twinlane_model_runs_total", HERE + ", how=" + chr(34) + "captured" + chr(34))} * {ON_DEVICE})'
            f" / sum by (task) ({on_device('twinlane_model_runs_total')})", "{{task}}")], "percentunit", max=1),
    panel("Padding", "Share of the numbers handed to a model that is padding.",
          [(f"sum by (task) ({on_device('twinlane_padding_values_total')}) / sum by (task) ({on_device('twinlane_packed_values_total')})",
            "{{task}}")], "percentunit", max=1),
    panel("Waiting for a model", "Records in the queue.", [(f"sum by (task) (twinlane_queue_records{{{HERE}}} * {ON_DEVICE})", "{{task}}")]),
    panel("Compared with the CPU", "Answers of lanes that ask for it with `parity`; those outside of the tolerance are to be none.",
          [(f"sum by (task) ({rate('twinlane_parity_checked_total', HERE)})", "{{task}}"),
           (f"sum by (task) ({rate('twinlane_parity_outside_total', HERE)})", "{{task}} outside")], "ops"),
    panel("Difference to the CPU", "In scores, or in parts of a number.",
          [(f"histogram_quantile({q}, sum by (le, task) ({rate('twinlane_parity_difference_bucket', HERE)}))", f"{{{{task}}}} p{q * 100:g}")
           for q in (0.5, 0.99)]),
    panel("Where models run", "", [(f"twinlane_device_in_use{{{HERE}}}", "")], kind="table", width=16,
          columns=["instance", "task", "device", "Value"]),
]

BOARDS = {
    "overview": ("Twinlane: overview", "Both lanes at a glance.", [JOB], OVERVIEW),
    "lane": (
        "Twinlane: a lane in depth", "Where the events and the time of one lane go.",
        [JOB, choice("lane", "Lane", ["precision", "throughput"]),
         variable("instance", 'label_values(twinlane_events_in_total{job=~"$job", stage="$lane"}, instance)', "Replica"),
         variable("task", 'label_values(twinlane_queue_records{job=~"$job", instance=~"$instance"}, task)', "Task")],
        IN_DEPTH,
    ),
    "delivery": (
        "Twinlane: delivery", "Transactions, lag, rebalances and what was not answered.",
        [JOB, variable("stage", 'label_values(twinlane_events_in_total{job=~"$job"}, stage)', "Stage")], DELIVERY,
    ),
    "gpu": (
        "Twinlane: GPU", "Models on a device. What the GPU itself does, NVIDIA's DCGM exporter tells.",
        [JOB, choice("device", "Device", ["cuda", "cpu"])], GPU,
    ),
}


def thresholds(steps):
    return dict(mode="absolute", steps=[dict(color=color, value=value) for value, color in steps])


def as_grafana(of, number, x, y):
    made = dict(id=number, type=of["kind"], title=of["title"], gridPos=dict(x=x, y=y, w=of["width"], h=of["height"]))
    if of["kind"] == "row":
        return made | dict(collapsed=False, panels=[])
    instant = of["kind"] == "table"
    targets = [
        dict(refId=chr(ord("A") + at), datasource=DATASOURCE, expr=expr, legendFormat=legend or "__auto", editorMode="code",
             range=not instant, instant=instant, **({"format": "table"} if instant else {}),
             **({"format": "heatmap"} if of["kind"] == "heatmap" else {}))
        for at, (expr, legend) in enumerate(of["queries"])
    ]
    defaults = dict(unit=of["unit"], min=0, **({"max": of["max"]} if "max" in of else {}))
    made |= dict(description=of["tells"], datasource=DATASOURCE, targets=targets)
    if of["kind"] == "timeseries":
        defaults["custom"] = dict(drawStyle="line", lineWidth=1, fillOpacity=10, showPoints="never", spanNulls=False)
        made["options"] = dict(legend=dict(displayMode="list", placement="bottom", showLegend=True), tooltip=dict(mode="multi", sort="desc"))
    elif of["kind"] == "stat":
        defaults["thresholds"] = thresholds(of.get("steps", [(None, "blue")]))
        made["options"] = dict(reduceOptions=dict(calcs=["lastNotNull"], values=False), colorMode="value", graphMode="area", textMode="value")
    elif of["kind"] == "table":
        defaults = {}
        made["transformations"] = [dict(id="filterFieldsByName", options=dict(include=dict(names=of["columns"])))]
        made["options"] = dict(showHeader=True, cellHeight="sm")
    elif of["kind"] == "heatmap":
        defaults = {}
        made["options"] = dict(calculate=False, yAxis=dict(unit=of["unit"]), color=dict(mode="scheme", scheme="Oranges", steps=64),
                               cellGap=1, tooltip=dict(mode="single", yHistogram=True))
    return made | dict(fieldConfig=dict(defaults=defaults, overrides=[]))


def board(name):
    title, tells, variables, panels = BOARDS[name]
    placed, x, y, height = [], 0, 0, 0
    for number, of in enumerate(panels, 1):
        if x + of["width"] > 24:
            x, y = 0, y + height
        placed.append(as_grafana(of, number, x, y))
        x, height = x + of["width"], of["height"]
    links = [dict(type="dashboards", title="Twinlane", tags=["twinlane"], asDropdown=False, includeVars=True, keepTime=True, icon="external link")]
    return dict(
        uid=f"twinlane-{name}", title=title, description=tells, tags=["twinlane"], timezone="browser", schemaVersion=39, version=1,
        editable=True, refresh="10s", time={"from": "now-1h", "to": "now"}, graphTooltip=1, links=links, annotations=dict(list=[]),
        templating=dict(list=[CHOOSE_DATASOURCE, *variables]), panels=placed,
    )


def main():
    check = sys.argv[1:] == ["--check"]
    for name in BOARDS:
        path, text = FOLDER / f"{name}.json", json.dumps(board(name), indent=2) + "\n"
        if check and (not path.exists() or path.read_text() != text):
            sys.exit(f"{path.name} is not what dashboards.py makes: run deploy/observability/grafana/dashboards.py")
        if not check:
            path.write_text(text)
    print(f"{len(BOARDS)} dashboards, {sum(len(b[3]) for b in BOARDS.values())} panels and rows")


if __name__ == "__main__":
    main()
