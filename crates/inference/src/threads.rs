//! How many model threads a worker runs when nobody says.

use twinlane_pipeline::Device;

/// On a CPU one per core of the quota, less one core for librdkafka and the stage when there are more than two:
/// starved heartbeats look like a dead worker. At least one. On a GPU two: while it runs the batch of one, the other
/// reads the answers of the last batch and packs the next.
pub fn default_threads(device: Device) -> usize {
    if device == Device::Cuda {
        return 2;
    }
    // On Linux this respects the cgroup's quota and the affinity mask.
    threads_for(std::thread::available_parallelism().map_or(1, usize::from))
}

fn threads_for(cores: usize) -> usize {
    if cores > 2 { cores - 1 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_left_to_kafka_as_soon_as_there_are_more_than_two() {
        assert_eq!([1, 2, 3, 4, 16].map(threads_for), [1, 1, 2, 3, 15]);
    }

    #[test]
    fn without_a_word_from_anyone_there_is_a_thread_and_none_too_many() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert!((1..=cores).contains(&default_threads(Device::Cpu)));
        assert_eq!(default_threads(Device::Cuda), 2);
    }
}
