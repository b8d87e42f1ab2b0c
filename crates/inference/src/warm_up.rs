//! What a model is warmed up with: rows of the pipeline's shape, at its longest, in batches that grow.

use std::time::Duration;

use twinlane_pipeline::{Device, Dim, Kind, Row, RowTensor, TensorData, TensorSpec};

/// On a CPU a first run only grows the arena, so warming up ends before it delays the start. A GPU tunes its
/// kernels and fills its caches per batch size, and each of them is paid for now or by an event.
const CPU_BUDGET: Duration = Duration::from_millis(400);

/// A row with as many steps as the pipeline keeps, of zeros. Whole numbers are one where there are steps: a
/// mask that leaves out every step makes a mean divide by zero.
pub(crate) fn row(specs: &[TensorSpec]) -> Row {
    row_of(specs, usize::MAX)
}

/// The same with at most so many steps.
pub(crate) fn row_of(specs: &[TensorSpec], most: usize) -> Row {
    let tensors = specs.iter().map(|spec| {
        let mut steps = 0;
        let mut count = 1;
        for dim in &spec.dims {
            match dim {
                Dim::Fixed(size) => count *= size,
                Dim::Steps { max } => {
                    steps = most.min(*max);
                    count *= steps;
                }
            }
        }
        let data = match spec.kind {
            Kind::Real => TensorData::Real(vec![0.0; count]),
            Kind::Integer => TensorData::Integer(vec![i64::from(steps > 0); count]),
            Kind::Bool => TensorData::Bool(vec![true; count]),
        };
        RowTensor { steps, data }
    });
    Row { tensors: tensors.collect() }
}

/// Batch sizes up to `max`, each four times the one before.
pub(crate) fn batches(max: usize) -> impl Iterator<Item = usize> {
    let growing = std::iter::successors(Some(1), |batch| Some(batch * 4));
    growing.take_while(move |batch| *batch < max).chain([max])
}

/// Whether the next, four times larger batch is worth its time.
pub(crate) fn goes_on(device: Device, so_far: Duration, last: Duration) -> bool {
    device != Device::Cpu || so_far + last * 4 <= CPU_BUDGET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_from_one_to_the_largest() {
        assert_eq!(batches(32).collect::<Vec<_>>(), [1, 4, 16, 32]);
        assert_eq!(batches(16).collect::<Vec<_>>(), [1, 4, 16]);
        assert_eq!(batches(1).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_row_has_the_pipelines_shape_at_its_longest() {
        let steps = Dim::Steps { max: 3 };
        let specs = [
            TensorSpec { name: "x".into(), kind: Kind::Integer, dims: vec![] },
            TensorSpec { name: "h".into(), kind: Kind::Real, dims: vec![steps, Dim::Fixed(2)] },
            TensorSpec { name: "m".into(), kind: Kind::Integer, dims: vec![steps] },
        ];
        let row = row(&specs);
        assert_eq!(row.tensors[0], RowTensor { steps: 0, data: TensorData::Integer(vec![0]) });
        assert_eq!(row.tensors[1], RowTensor { steps: 3, data: TensorData::Real(vec![0.0; 6]) });
        assert_eq!(row.tensors[2], RowTensor { steps: 3, data: TensorData::Integer(vec![1; 3]) });
    }

    #[test]
    fn a_cpu_stops_before_the_start_is_late_and_a_gpu_sees_every_size() {
        let (short, long) = (Duration::from_millis(10), Duration::from_millis(200));
        assert!(goes_on(Device::Cpu, short, short));
        assert!(!goes_on(Device::Cpu, long, long));
        assert!(goes_on(Device::Cuda, long, long));
    }
}
