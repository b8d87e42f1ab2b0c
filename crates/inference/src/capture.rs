//! Runs captured as CUDA graphs. On a GPU a small batch costs what launching its kernels costs, some hundreds one after the
//! other; a captured run is launched as a whole. It has one shape and fixed addresses, so a small batch is filled up to the
//! next of a few shapes, and its numbers are copied to where that shape's run expects them.
//!
//! ```text
//!  rows ─ packed as Shape ─► host, pinned ─ copy ─► device ─ captured run ─► device ─ copy ─► host, pinned ─► answers
//! ```

use std::{collections::HashMap, sync::Arc};

use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, NoSelectedOutputs, RunOptions, Session},
    value::{DynTensor, DynValue, TensorElementType, ValueType},
};

use crate::{
    contract::Binding,
    cuda::{self, Copies, Stretch},
    pack::Packer,
};

/// Rows of captured runs. Larger ones keep the device busy without, and filling them up would cost more than it saves.
const ROWS: [usize; 9] = [1, 2, 4, 8, 16, 24, 32, 48, 64];
/// Steps are filled up to a multiple of this.
const STEPS: usize = 16;
/// Which captured run a run is; this one is none.
pub(crate) const GRAPH_ID: &str = "gpu_graph_id";
pub(crate) const NOT_CAPTURED: &str = "-1";
const DEVICE: i32 = 0;

/// What a captured run is made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    /// Per group of sequences that are padded together.
    pub(crate) steps: Vec<usize>,
}

impl Shape {
    /// The least shape with a captured run that takes so many rows of these lengths; none if there are too many.
    pub(crate) fn of(rows: usize, longest: &[usize], most: &[usize]) -> Option<Self> {
        let up = |(&steps, &most): (&usize, &usize)| steps.max(1).next_multiple_of(STEPS).min(most);
        let rows = ROWS.into_iter().find(|&of_shape| of_shape >= rows)?;
        Some(Self { rows, steps: longest.iter().zip(most).map(up).collect() })
    }

    /// Every shape that batches of up to `max_batch` rows can have, the largest first: what it allocates serves the others.
    pub(crate) fn all(max_batch: usize, most: &[usize]) -> Vec<Self> {
        let largest = ROWS.into_iter().find(|&rows| rows >= max_batch).unwrap_or(usize::MAX);
        let mut shapes: Vec<Self> = Vec::new();
        for rows in ROWS.into_iter().filter(|&rows| rows <= largest) {
            let mut of_rows = vec![Self { rows, steps: Vec::new() }];
            for &most in most {
                let lengths = (STEPS..most).step_by(STEPS).chain([most]);
                of_rows = lengths
                    .flat_map(|length| {
                        of_rows.iter().cloned().map(move |mut shape| {
                            shape.steps.push(length);
                            shape
                        })
                    })
                    .collect();
            }
            shapes.extend(of_rows);
        }
        shapes.sort_by_key(|shape| std::cmp::Reverse((shape.rows, shape.steps.clone())));
        shapes
    }
}

/// The captured runs of one session. They belong to the thread that captured them.
pub(crate) struct Captures {
    copies: Copies,
    pinned: Allocator,
    device: Allocator,
    by_shape: HashMap<Shape, Captured>,
}

struct Captured {
    binding: IoBinding,
    options: RunOptions<NoSelectedOutputs>,
    inputs: Vec<Pair>,
    outputs: Vec<(Arc<str>, Pair)>,
}

/// The same tensor on both sides.
struct Pair {
    /// Pinned.
    host: DynValue,
    host_at: Stretch,
    device_at: Stretch,
    /// Kept for its memory; the binding keeps what it is bound to by itself.
    _device: Option<DynTensor>,
}

/// Most captured runs per session: more than an encoder with one text of 128 tokens has. A pipeline with several sequences
/// has more shapes than are worth it.
pub(crate) const MOST: usize = 96;

impl Captures {
    pub(crate) fn new(session: &Session) -> Result<Self, String> {
        let allocator = |device, memory| {
            let info = MemoryInfo::new(device, DEVICE, AllocatorType::Device, memory)?;
            Allocator::new(session, info)
        };
        Ok(Self {
            copies: Copies::load()?,
            pinned: allocator(AllocationDevice::CUDA_PINNED, MemoryType::CPUInput)
                .map_err(|why| why.to_string())?,
            device: allocator(AllocationDevice::CUDA, MemoryType::Default).map_err(|why| why.to_string())?,
            by_shape: HashMap::new(),
        })
    }

    /// Runs what was packed as `shape`. `None`: there is no captured run of this shape.
    pub(crate) fn run(
        &mut self,
        session: &mut Session,
        packer: &Packer,
        shape: &Shape,
    ) -> Result<Option<Outputs<'_>>, String> {
        let Some(captured) = self.by_shape.get_mut(shape) else { return Ok(None) };
        let _running = cuda::running();
        for (at, pair) in captured.inputs.iter_mut().enumerate() {
            packer.write(at, &mut pair.host).map_err(|why| why.to_string())?;
            pair.send(&self.copies)?;
        }
        session
            .run_binding_with_options(&captured.binding, &captured.options)
            .map_err(|why| why.to_string())?;
        for (_, pair) in &mut captured.outputs {
            pair.fetch(&self.copies)?;
        }
        Ok(Some(Outputs(&captured.outputs)))
    }

    /// Captures the run of what was packed as `shape`. After an error the session cannot be used any more.
    pub(crate) fn capture(
        &mut self,
        session: &mut Session,
        packer: &Packer,
        contract: &Binding,
        shape: &Shape,
    ) -> Result<(), String> {
        let _capturing = cuda::capturing();
        let captured = self.bound(session, packer, contract)?;
        // The first run with an id is the one that is captured.
        session
            .run_binding_with_options(&captured.binding, &captured.options)
            .map_err(|why| why.to_string())?;
        self.by_shape.insert(shape.clone(), captured);
        Ok(())
    }

    /// Tensors for the inputs as they are packed and for the outputs, and a binding to them.
    fn bound(&self, session: &mut Session, packer: &Packer, contract: &Binding) -> Result<Captured, String> {
        let text = |why: ort::Error| why.to_string();
        let mut binding = session.create_binding().map_err(text)?;
        let mut inputs = Vec::new();
        for (name, element, shape) in packer.tensors() {
            let (pair, device) = self.pair(element, shape).map_err(text)?;
            binding.bind_input(name, &device).map_err(text)?;
            inputs.push(Pair { _device: Some(device), ..pair });
        }
        // Their shapes are known only once it has run.
        let mut outputs = Vec::new();
        {
            let plain = contract.reads_only().map_err(text)?;
            let views = packer.views().map_err(text)?;
            let first = session.run_with_options(views.as_slice(), &plain).map_err(text)?;
            for (name, value) in first.iter() {
                let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
                    return Err(format!("output `{name}` is no tensor"));
                };
                let (pair, device) = self.pair(*ty, shape).map_err(text)?;
                outputs.push((Arc::from(name), pair, device));
            }
        }
        let mut kept = Vec::new();
        for (name, pair, device) in outputs {
            binding.bind_output(&*name, device).map_err(text)?;
            kept.push((name, pair));
        }
        let mut options = RunOptions::new().map_err(text)?;
        options.set(GRAPH_ID, (self.by_shape.len() + 1).to_string()).map_err(text)?;
        Ok(Captured { binding, options, inputs, outputs: kept })
    }

    fn pair(&self, element: TensorElementType, shape: &[i64]) -> ort::Result<(Pair, DynTensor)> {
        let numbers = shape.iter().product::<i64>() as usize;
        let bytes = element.byte_size(numbers).unwrap_or(0);
        let mut host = DynTensor::new(&self.pinned, element, shape.to_vec())?;
        let mut device = DynTensor::new(&self.device, element, shape.to_vec())?;
        let host_at = Stretch::new(host.data_ptr_mut(), bytes);
        let device_at = Stretch::new(device.data_ptr_mut(), bytes);
        Ok((Pair { host: host.into_dyn(), host_at, device_at, _device: None }, device))
    }
}

#[expect(unsafe_code, reason = "only the caller of a copy knows that its memory is free to be written")]
impl Pair {
    fn send(&mut self, copies: &Copies) -> Result<(), String> {
        // SAFETY: both tensors are fields of this pair or held by the binding beside it, and no run is under way: those of a
        // session end before `Captures::run` returns.
        unsafe { copies.to_device(self.host_at, self.device_at) }
    }

    fn fetch(&mut self, copies: &Copies) -> Result<(), String> {
        // SAFETY: as in `send`; `&mut` says that nobody reads the host's tensor.
        unsafe { copies.to_host(self.device_at, self.host_at) }
    }
}

/// What a captured run gave, until the next run.
pub(crate) struct Outputs<'c>(&'c [(Arc<str>, Pair)]);

impl Outputs<'_> {
    pub(crate) fn get(&self, tensor: &str) -> Option<&DynValue> {
        self.0.iter().find(|(name, _)| **name == *tensor).map(|(_, pair)| &pair.host)
    }
}

#[cfg(test)]
mod tests {
    use super::Shape;

    fn shape(rows: usize, steps: &[usize]) -> Shape {
        Shape { rows, steps: steps.to_vec() }
    }

    #[test]
    fn a_batch_is_filled_up_to_the_next_shape_and_a_large_one_is_not_captured() {
        assert_eq!(Shape::of(3, &[17], &[128]), Some(shape(4, &[32])));
        assert_eq!(Shape::of(1, &[0], &[128]), Some(shape(1, &[16])), "one step at least");
        assert_eq!(Shape::of(33, &[120], &[120]), Some(shape(48, &[120])), "never beyond the longest");
        assert_eq!(Shape::of(2, &[], &[]), Some(shape(2, &[])));
        assert_eq!(Shape::of(65, &[1], &[128]), None);
    }

    #[test]
    fn every_batch_has_one_of_all_shapes() {
        let all = Shape::all(20, &[40]);
        for rows in 1..=20 {
            for steps in 0..=40 {
                let of = Shape::of(rows, &[steps], &[40]).expect("small");
                assert!(all.contains(&of), "{of:?}");
            }
        }
        assert_eq!(all.first(), Some(&shape(24, &[40])));
        assert_eq!(all.len(), 6 * 3);
        assert_eq!(Shape::all(1, &[]), [shape(1, &[])]);
    }
}
