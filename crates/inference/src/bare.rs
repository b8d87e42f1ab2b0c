//! ONNX Runtime alone, for load tests: the limit that no worker can exceed. Batches are packed beforehand; a run is the
//! session's run and nothing else. One thread, the settings of a lane's own sessions.

use ort::session::{HasSelectedOutputs, RunOptions, Session};
use twinlane_pipeline::{Device, Row};

use crate::{Error, ModelSource, OnnxRuntime, RunError, contract::Binding, load, pack::Packer};

/// A session with batches that are ready for it.
pub struct Bare {
    session: Session,
    options: RunOptions<HasSelectedOutputs>,
    binding: Binding,
    batches: Vec<(usize, Packer)>,
    device: Device,
}

impl Bare {
    /// Loads the model as a worker would, but runs nothing as a captured CUDA graph.
    pub fn load(runtime: &OnnxRuntime, source: &ModelSource<'_>) -> Result<Self, Error> {
        let mut loaded = load::load(runtime, source, |_| 1, false)?;
        let options =
            loaded.binding.reads_only().map_err(|why| load::cannot_load(source, why.to_string()))?;
        let session = loaded.sessions.pop().expect("one was asked for").session;
        Ok(Self { session, options, binding: loaded.binding, batches: Vec::new(), device: loaded.device })
    }

    /// The device that runs it.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Packs these rows as batches of `size`, in place of what was packed before.
    pub fn pack(&mut self, rows: &[Row], size: usize) {
        let pack = |rows: &[Row]| {
            let mut packer = Packer::new(&self.binding);
            // A row that cannot be packed is zeros, which cost the model the same.
            packer.pack(&rows.iter().collect::<Vec<_>>());
            (rows.len(), packer)
        };
        self.batches = rows.chunks(size.max(1)).map(pack).collect();
    }

    /// Runs every batch once; gives how many rows that were.
    pub fn run(&mut self) -> Result<usize, RunError> {
        (0..self.batches.len()).map(|at| self.run_one(at)).sum()
    }

    /// Runs one batch, and after the last one the first again; gives how many rows that were.
    pub fn run_one(&mut self, at: usize) -> Result<usize, RunError> {
        let Some((size, packer)) = self.batches.get(at % self.batches.len().max(1)) else { return Ok(0) };
        let broken = |why: ort::Error| RunError::SessionBroken(why.to_string());
        let views = packer.views().map_err(broken)?;
        self.session.run_with_options(views.as_slice(), &self.options).map_err(broken)?;
        Ok(*size)
    }
}
