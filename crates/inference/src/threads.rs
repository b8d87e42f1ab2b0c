//! How many model threads a worker runs when nobody says.

/// One per core of the CPU quota, less one core for librdkafka and the stage when there are more than two:
/// starved heartbeats look like a dead worker. At least one.
pub fn default_threads() -> usize {
    // On Linux this respects the cgroup's quota and the affinity mask.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > 2 { cores - 1 } else { 1 }
}
