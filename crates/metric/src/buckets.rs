//! Where histograms have their bounds: closer where a difference matters. Fixed, so that replicas add up.

/// A call, a run, a wait inside of the process: from half a millisecond to a broker that stands still.
pub const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0, 30.0,
];

/// From an event's own time to its answer: a backlog of hours still is told from one of minutes.
pub const LATENCY: &[f64] = &[
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0,
    30.0, 60.0, 300.0, 1800.0, 7200.0,
];

/// Records of a batch or a window.
pub const RECORDS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];

/// Differences between two answers, of which 0.02 are let pass.
pub const DIFFERENCES: &[f64] = &[0.00001, 0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02];
