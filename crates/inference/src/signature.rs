//! What a model says about its inputs and outputs, in plain types, so that the contract can be checked and
//! tested without a session.

use std::fmt;

use ort::{
    session::Session,
    value::{Outlet, TensorElementType, ValueType},
};

/// A model's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
}

/// One tensor, its batch dimension first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) element: Element,
    /// Empty when the model leaves the rank open (ONNX Runtime tells a scalar no differently).
    pub(crate) dims: Vec<Extent>,
}

/// A dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Fixed(usize),
    Named(String),
    Open,
}

/// What a tensor is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    F32,
    F64,
    I32,
    I64,
    Bool,
    Text,
    /// What no pipeline fills or reads, as the model calls it.
    Other(String),
}

impl Signature {
    pub(crate) fn of(session: &Session) -> Self {
        let tensors = |outlets: &[Outlet]| outlets.iter().map(Tensor::of).collect();
        Self { inputs: tensors(session.inputs()), outputs: tensors(session.outputs()) }
    }
}

impl Tensor {
    fn of(outlet: &Outlet) -> Self {
        let name = outlet.name().to_owned();
        let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
            return Self { name, element: Element::Other(outlet.dtype().to_string()), dims: Vec::new() };
        };
        let extents =
            shape.iter().zip(dimension_symbols.iter()).map(|(&size, symbol)| match usize::try_from(size) {
                Ok(size) => Extent::Fixed(size),
                Err(_) if symbol.is_empty() => Extent::Open,
                Err(_) => Extent::Named(symbol.clone()),
            });
        Self { name, element: Element::of(*ty), dims: extents.collect() }
    }
}

impl Element {
    pub(crate) fn of(ty: TensorElementType) -> Self {
        match ty {
            TensorElementType::Float16 => Self::F16,
            TensorElementType::Float32 => Self::F32,
            TensorElementType::Float64 => Self::F64,
            TensorElementType::Int32 => Self::I32,
            TensorElementType::Int64 => Self::I64,
            TensorElementType::Bool => Self::Bool,
            TensorElementType::String => Self::Text,
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
            Self::Text => "text",
            Self::Other(name) => name,
        })
    }
}

impl fmt::Display for Tensor {
    /// Type and shape, `f32[batch, 2]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.element)?;
        if self.dims.is_empty() {
            return Ok(());
        }
        let dims: Vec<String> = self.dims.iter().map(Extent::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Named(name) => f.write_str(name),
            Self::Open => f.write_str("?"),
        }
    }
}
