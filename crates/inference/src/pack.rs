//! Packs rows into the model's tensors: one buffer per input, in the model's own type, kept from batch to
//! batch. Sequences that have a mask are padded with zeros to the longest of the batch; those without one come
//! at their fixed length, so that no score depends on who else is in the batch. The session reads the buffers
//! where they are.

use half::f16;
use ort::{
    session::SessionInputValue,
    value::{DynValue, TensorElementType, TensorRef},
};
use twinlane_pipeline::{Row, TensorData};
use twinlane_record::{Reason, Rejection};

use crate::{
    capture::Shape,
    contract::{Binding, BoundInput},
    convert::Cell,
    signature::Element,
};

/// The buffers of one session.
pub(crate) struct Packer {
    inputs: Vec<Packed>,
    /// Longest row per group of step dimensions, of the batch at hand.
    longest: Vec<usize>,
    /// Since it was last asked.
    packed: Numbers,
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) all: usize,
    /// Those of them that stand for no row, or for no step of one.
    pub(crate) padding: usize,
}

struct Packed {
    bound: BoundInput,
    /// Numbers per step, or per row where there are no steps.
    width: usize,
    shape: Vec<i64>,
    buffer: Buffer,
}

enum Buffer {
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

impl Packer {
    pub(crate) fn new(binding: &Binding) -> Self {
        let inputs = binding.inputs.iter().map(|bound| Packed {
            bound: bound.clone(),
            width: bound.inner.iter().product(),
            shape: Vec::new(),
            buffer: Buffer::of(&bound.element),
        });
        Self { inputs: inputs.collect(), longest: vec![0; binding.step_groups], packed: Numbers::default() }
    }

    /// The most steps of each group.
    pub(crate) fn most_steps(&self) -> Vec<usize> {
        let mut most = vec![1; self.longest.len()];
        for steps in self.inputs.iter().filter_map(|input| input.bound.steps) {
            most[steps.group] = most[steps.group].max(steps.exactly.unwrap_or(steps.max));
        }
        most
    }

    /// For each row its steps in each group that is padded to one length.
    pub(crate) fn lengths<'r>(&self, rows: impl IntoIterator<Item = &'r Row>) -> Vec<Vec<usize>> {
        let of_row = |row: &Row| {
            let mut lengths = vec![0; self.longest.len()];
            for input in &self.inputs {
                if let Some(steps) = input.bound.steps {
                    let length = steps.exactly.unwrap_or(row.tensors[input.bound.in_row].steps).max(1);
                    lengths[steps.group] = lengths[steps.group].max(length);
                }
            }
            lengths
        };
        rows.into_iter().map(of_row).collect()
    }

    /// Fills the buffers. A row with a number that its tensor cannot hold is packed as zeros and reported; it
    /// must not be answered with what the model makes of them.
    pub(crate) fn pack(&mut self, rows: &[&Row]) -> Vec<(usize, Rejection)> {
        // One step at least: kernels divide by it and reshape to it, and a mask says that it is padding.
        self.longest.fill(1);
        self.fill(rows, rows.len())
    }

    /// The same, filled up with zeros to this shape, which must not be too small.
    pub(crate) fn pack_as(&mut self, rows: &[&Row], shape: &Shape) -> Vec<(usize, Rejection)> {
        self.longest.clone_from(&shape.steps);
        self.fill(rows, shape.rows)
    }

    /// How many numbers were packed since this was last asked.
    pub(crate) fn take_packed(&mut self) -> Numbers {
        std::mem::take(&mut self.packed)
    }

    fn fill(&mut self, rows: &[&Row], filled_up: usize) -> Vec<(usize, Rejection)> {
        for input in &self.inputs {
            if let Some(steps) = input.bound.steps {
                let longest = rows.iter().map(|row| row.tensors[input.bound.in_row].steps).max();
                let wanted = steps.exactly.unwrap_or(longest.unwrap_or(0));
                self.longest[steps.group] = self.longest[steps.group].max(wanted);
            }
        }
        let mut rejected: Vec<(usize, Rejection)> = Vec::new();
        for input in &mut self.inputs {
            let steps = input.bound.steps.map(|steps| self.longest[steps.group]);
            input.shape.clear();
            input.shape.push(filled_up as i64);
            input.shape.extend(steps.map(|steps| steps as i64));
            input.shape.extend(input.bound.inner.iter().map(|&size| size as i64));
            let per_row = steps.unwrap_or(1) * input.width;
            let of_rows: usize = match input.bound.steps {
                Some(_) => rows.iter().map(|row| row.tensors[input.bound.in_row].steps * input.width).sum(),
                None => rows.len() * input.width,
            };
            self.packed.all += filled_up * per_row;
            self.packed.padding += (filled_up * per_row).saturating_sub(of_rows);
            let column = Column { rows, filled_up, bound: &input.bound, width: input.width, per_row };
            match &mut input.buffer {
                Buffer::F16(cells) => column.fill(cells, &mut rejected),
                Buffer::F32(cells) => column.fill(cells, &mut rejected),
                Buffer::F64(cells) => column.fill(cells, &mut rejected),
                Buffer::I32(cells) => column.fill(cells, &mut rejected),
                Buffer::I64(cells) => column.fill(cells, &mut rejected),
                Buffer::Bool(cells) => column.fill(cells, &mut rejected),
            }
        }
        rejected
    }

    /// The packed batch as the session's inputs, in the model's order. Borrows the buffers, copies nothing.
    pub(crate) fn views(&self) -> ort::Result<Vec<SessionInputValue<'_>>> {
        self.inputs
            .iter()
            .map(|input| {
                let shape = input.shape.as_slice();
                Ok(match &input.buffer {
                    Buffer::F16(cells) => TensorRef::from_array_view((shape, cells.as_slice()))?.into(),
                    Buffer::F32(cells) => TensorRef::from_array_view((shape, cells.as_slice()))?.into(),
                    Buffer::F64(cells) => TensorRef::from_array_view((shape, cells.as_slice()))?.into(),
                    Buffer::I32(cells) => TensorRef::from_array_view((shape, cells.as_slice()))?.into(),
                    Buffer::I64(cells) => TensorRef::from_array_view((shape, cells.as_slice()))?.into(),
                    Buffer::Bool(cells) => TensorRef::from_array_view((shape, cells.as_slice()))?.into(),
                })
            })
            .collect()
    }
}

impl Packer {
    /// Name, type and shape of each input as it is packed, in the model's order.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, TensorElementType, &[i64])> {
        self.inputs.iter().map(|input| (&*input.bound.name, input.buffer.element(), input.shape.as_slice()))
    }

    /// Copies a packed input to a tensor of its type and shape.
    pub(crate) fn write(&self, at: usize, tensor: &mut DynValue) -> ort::Result<()> {
        match &self.inputs[at].buffer {
            Buffer::F16(cells) => tensor.try_extract_tensor_mut()?.1.copy_from_slice(cells),
            Buffer::F32(cells) => tensor.try_extract_tensor_mut()?.1.copy_from_slice(cells),
            Buffer::F64(cells) => tensor.try_extract_tensor_mut()?.1.copy_from_slice(cells),
            Buffer::I32(cells) => tensor.try_extract_tensor_mut()?.1.copy_from_slice(cells),
            Buffer::I64(cells) => tensor.try_extract_tensor_mut()?.1.copy_from_slice(cells),
            Buffer::Bool(cells) => tensor.try_extract_tensor_mut()?.1.copy_from_slice(cells),
        }
        Ok(())
    }
}

impl Buffer {
    fn element(&self) -> TensorElementType {
        match self {
            Self::F16(_) => TensorElementType::Float16,
            Self::F32(_) => TensorElementType::Float32,
            Self::F64(_) => TensorElementType::Float64,
            Self::I32(_) => TensorElementType::Int32,
            Self::I64(_) => TensorElementType::Int64,
            Self::Bool(_) => TensorElementType::Bool,
        }
    }

    fn of(element: &Element) -> Self {
        match element {
            Element::F16 => Self::F16(Vec::new()),
            Element::F64 => Self::F64(Vec::new()),
            Element::I32 => Self::I32(Vec::new()),
            Element::I64 => Self::I64(Vec::new()),
            Element::Bool => Self::Bool(Vec::new()),
            // The contract refuses everything that is not one of the six.
            Element::F32 | Element::Text | Element::Other(_) => Self::F32(Vec::new()),
        }
    }
}

/// One tensor of all rows of a batch.
struct Column<'a> {
    rows: &'a [&'a Row],
    /// Rows, those of zeros after the last one included.
    filled_up: usize,
    bound: &'a BoundInput,
    width: usize,
    /// Numbers per row, padding included.
    per_row: usize,
}

impl Column<'_> {
    fn fill<C: Cell>(&self, cells: &mut Vec<C>, rejected: &mut Vec<(usize, Rejection)>) {
        let Self { rows, filled_up, bound, width, per_row } = *self;
        cells.clear();
        cells.reserve(filled_up * per_row);
        for (at, row) in rows.iter().enumerate() {
            let start = cells.len();
            let tensor = &row.tensors[bound.in_row];
            let expected = if bound.steps.is_some() { tensor.steps * width } else { width };
            let result = if length(&tensor.data) == expected && expected <= per_row {
                append(cells, &tensor.data)
            } else {
                Err(format!("{} values where {expected} belong", length(&tensor.data)))
            };
            if let Err(why) = result {
                cells.truncate(start);
                if !rejected.iter().any(|(row, _)| *row == at) {
                    let detail = format!("tensor `{}` ({}): {why}", bound.name, bound.element);
                    rejected.push((at, Rejection::new(Reason::NotFinite, detail)));
                }
            }
            cells.resize(start + per_row, C::default());
        }
        cells.resize(filled_up * per_row, C::default());
    }
}

fn length(data: &TensorData) -> usize {
    match data {
        TensorData::Real(values) => values.len(),
        TensorData::Integer(values) => values.len(),
        TensorData::Bool(values) => values.len(),
    }
}

fn append<C: Cell>(cells: &mut Vec<C>, data: &TensorData) -> Result<(), String> {
    match data {
        TensorData::Real(values) => each(cells, values, C::real),
        TensorData::Integer(values) => each(cells, values, C::integer),
        TensorData::Bool(values) => {
            cells.extend(values.iter().map(|&value| C::boolean(value)));
            Ok(())
        }
    }
}

fn each<S: Copy + std::fmt::Display, C: Cell>(
    cells: &mut Vec<C>,
    values: &[S],
    convert: impl Fn(S) -> Option<C>,
) -> Result<(), String> {
    for &value in values {
        cells.push(convert(value).ok_or_else(|| format!("{value} does not fit"))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use twinlane_pipeline::RowTensor;

    use super::*;
    use crate::contract::Steps;

    fn packer(element: Element, steps: Option<Steps>, inner: &[usize]) -> Packer {
        let bound = BoundInput { name: "x".into(), in_row: 0, element, steps, inner: inner.to_vec() };
        let step_groups = usize::from(steps.is_some());
        Packer::new(&Binding { inputs: vec![bound], outputs: vec![], step_groups })
    }

    fn row(steps: usize, values: &[f64]) -> Row {
        Row { tensors: vec![RowTensor { steps, data: TensorData::Real(values.to_vec()) }] }
    }

    fn f32_cells(packer: &Packer) -> &[f32] {
        match &packer.inputs[0].buffer {
            Buffer::F32(cells) => cells,
            _ => panic!("f32 was asked for"),
        }
    }

    const STEPS: Option<Steps> = Some(Steps { group: 0, max: 4, exactly: None });

    #[test]
    fn sequences_are_padded_to_the_longest_of_the_batch() {
        let mut packer = packer(Element::F32, STEPS, &[2]);
        assert!(
            packer.pack(&[row(1, &[1., 2.]), row(0, &[]), row(2, &[3., 4., 5., 6.])].each_ref()).is_empty()
        );
        assert_eq!(packer.inputs[0].shape, [3, 2, 2]);
        assert_eq!(f32_cells(&packer), [1., 2., 0., 0., 0., 0., 0., 0., 3., 4., 5., 6.]);
        assert!(packer.pack(&[row(1, &[7., 8.])].each_ref()).is_empty());
        assert_eq!(packer.take_packed(), Numbers { all: 12 + 2, padding: 6 }, "of both batches");
        assert_eq!(packer.take_packed(), Numbers::default());
        assert_eq!(
            (packer.inputs[0].shape.as_slice(), f32_cells(&packer)),
            ([1, 1, 2].as_slice(), [7., 8.].as_slice())
        );
    }

    #[test]
    fn a_batch_of_empty_sequences_still_has_one_padded_step() {
        let mut packer = packer(Element::F32, STEPS, &[1]);
        assert!(packer.pack(&[row(0, &[]), row(0, &[])].each_ref()).is_empty());
        assert_eq!(
            (packer.inputs[0].shape.as_slice(), f32_cells(&packer)),
            ([2, 1, 1].as_slice(), [0., 0.].as_slice())
        );
    }

    #[test]
    fn a_fixed_number_of_steps_is_always_filled() {
        let steps = Some(Steps { group: 0, max: 3, exactly: Some(3) });
        let mut packer = packer(Element::F32, steps, &[]);
        packer.pack(&[row(1, &[9.])].each_ref());
        assert_eq!(
            (packer.inputs[0].shape.as_slice(), f32_cells(&packer)),
            ([1, 3].as_slice(), [9., 0., 0.].as_slice())
        );
    }

    #[test]
    fn a_batch_is_filled_up_to_a_shape_with_zeros() {
        let mut packer = packer(Element::F32, STEPS, &[]);
        let shape = Shape { rows: 3, steps: vec![4] };
        assert!(packer.pack_as(&[row(2, &[1., 2.]), row(1, &[3.])].each_ref(), &shape).is_empty());
        assert_eq!(packer.inputs[0].shape, [3, 4]);
        assert_eq!(f32_cells(&packer), [1., 2., 0., 0., 3., 0., 0., 0., 0., 0., 0., 0.]);
        assert_eq!(packer.most_steps(), [4]);
        assert_eq!(packer.take_packed(), Numbers { all: 12, padding: 9 });
    }

    #[test]
    fn a_number_that_does_not_fit_costs_its_own_row_only() {
        let mut packer = packer(Element::F32, None, &[2]);
        let rejected = packer.pack(&[row(0, &[1., 2.]), row(0, &[3., 1e300]), row(0, &[5., 6.])].each_ref());
        assert_eq!(f32_cells(&packer), [1., 2., 0., 0., 5., 6.]);
        let [(1, rejection)] = &rejected[..] else { panic!("{rejected:?}") };
        assert_eq!(rejection.reason, Reason::NotFinite);
        assert!(rejection.detail.starts_with("tensor `x` (f32): 1000"), "{}", rejection.detail);
    }

    #[test]
    fn a_row_of_the_wrong_length_never_shifts_its_neighbours() {
        let mut packer = packer(Element::F32, None, &[2]);
        let rejected = packer.pack(&[row(0, &[1.]), row(0, &[3., 4.])].each_ref());
        assert_eq!((rejected.len(), f32_cells(&packer)), (1, [0., 0., 3., 4.].as_slice()));
    }
}
