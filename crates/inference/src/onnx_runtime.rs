//! ONNX Runtime's shared library, loaded once per process.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel};

use crate::Error;

/// The loaded library. Cheap to clone; there is one environment per process, whoever asks first makes it.
#[derive(Clone, Debug)]
pub struct OnnxRuntime {
    environment: Environment,
    gpu_memory: Option<usize>,
}

/// What a system-wide installation is called.
const SYSTEM_LIBRARY: &str = "libonnxruntime.so";

/// ONNX Runtime allows one environment per process, ever.
static LOADED: Mutex<Option<OnnxRuntime>> = Mutex::new(None);

/// Keeps ONNX Runtime from gathering telemetry: its builds for Linux begin with it, a device's id and a data base in the
/// user's cache folder for uploads, before a program can tell them not to. For the first line of `main`.
#[expect(
    unsafe_code,
    reason = "the environment may be changed by whoever knows that no other thread reads it"
)]
pub fn without_telemetry() {
    // SAFETY: as the first thing that `main` does, it is done while there is no other thread.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") }
}

impl OnnxRuntime {
    /// Loads the library; `None` means the system's. A second call returns what the first one loaded.
    pub fn load(library: Option<&Path>) -> Result<Self, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let path = library.unwrap_or(Path::new(SYSTEM_LIBRARY));
        let fail = |detail: String| Error::Library { library: path.display().to_string(), detail };
        if library.is_some_and(|p| !p.is_file()) {
            return Err(fail("there is no such file".into()));
        }
        let environment = ort::init_from(path)
            .map_err(|e| fail(e.to_string()))?
            .with_name("twinlane")
            .with_telemetry(false)
            .build()
            .map_err(|e| fail(e.to_string()))?;
        // It starts at its most talkative level, and each line would cross into Rust only to be dropped there.
        environment.set_log_level(LogLevel::Warning);
        let runtime = Self { environment, gpu_memory: None };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// Sessions on a GPU that are opened with this take so many bytes of its memory at most, each: weights, and what a run
    /// needs. A model or a batch that needs more fails, and the GPU's other users are not hurt.
    #[must_use]
    pub fn with_gpu_memory(self, bytes_per_session: Option<usize>) -> Self {
        Self { gpu_memory: bytes_per_session, ..self }
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn gpu_memory(&self) -> Option<usize> {
        self.gpu_memory
    }
}
