//! Avro datums straight into [`Value`](crate::Value), under the writer's schema and as the reader's.
//!
//! Both schemas are compiled once into a [`Plan`]: what stands next in the bytes, and what it becomes. Three
//! things speak against decoding with the apache-avro crate: a string, boolean or union that is cut off at the
//! end of the bytes comes back as null instead of an error; a schema that refers to itself lets the bytes
//! choose the depth of the recursion; and its generic value, which alone takes longer than this, would have to
//! be resolved and converted once more. Schemas are still parsed by apache-avro, and the tests hold both
//! decoders against each other.

mod bytes;
mod decimal;
mod default;
mod fault;
mod plan;
mod read;
mod resolve;
mod view;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub(crate) use plan::Plan;
