//! Opens a session on a device, or says why it does not work. ONNX Runtime's own habit is to log a line and go
//! on with the CPU; here a device that fails is an error, and the next one of the list is tried because the
//! pipeline lists it. That a device opens does not say that it runs anything: [`crate::placement`] finds out.

use ort::{
    ep::{
        self, ArenaExtendStrategy, ExecutionProvider,
        cuda::{AttentionBackend, ConvAlgorithmSearch},
    },
    session::{
        Session,
        builder::{AutoDevicePolicy, GraphOptimizationLevel},
    },
};
use twinlane_pipeline::Device;

use crate::{OnnxRuntime, placement::Profile};

/// What all sessions of one model share.
pub(crate) struct Opener<'a> {
    pub(crate) runtime: &'a OnnxRuntime,
    pub(crate) bytes: &'a [u8],
    /// Whether runs are captured where the device can.
    pub(crate) captures: bool,
}

/// A session, and whether its runs may be [captured](crate::capture).
pub(crate) struct Opened {
    pub(crate) session: Session,
    pub(crate) captures: bool,
}

impl Opener<'_> {
    /// A session with this device, which the CPU helps out where the device has no kernel for a node. With a
    /// profile it writes down what runs where, until [`Profile::end`].
    pub(crate) fn open(&self, device: Device, profile: Option<&Profile>) -> Result<Opened, String> {
        match device {
            Device::Cpu => {
                let session = self.session(device, profile, false).map_err(|why| why.to_string())?;
                Ok(Opened { session, captures: false })
            }
            Device::Cuda => {
                if !ep::CUDA::is_available().map_err(|why| why.to_string())? {
                    let why = "this ONNX Runtime is built without CUDA; use the library of the `onnxruntime-gpu` wheel";
                    return Err(why.to_owned());
                }
                // Refused for a model of which some nodes run elsewhere; such a one runs without.
                if self.captures
                    && let Ok(session) = self.session(device, profile, true)
                {
                    return Ok(Opened { session, captures: true });
                }
                let session =
                    self.session(device, profile, false).map_err(|why| cuda_problem(why.message()))?;
                Ok(Opened { session, captures: false })
            }
        }
    }

    fn session(&self, device: Device, profile: Option<&Profile>, captures: bool) -> ort::Result<Session> {
        // Registered without its arena the CPU would allocate every tensor anew.
        let cpu = ep::CPU::default().with_arena_allocator(true).build().error_on_failure();
        let providers = match device {
            Device::Cpu => vec![cpu],
            Device::Cuda => {
                // The default search benchmarks each new input shape, and every batch size is one.
                let cuda = ep::CUDA::default()
                    .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
                    .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
                    .with_cuda_graph(captures)
                    .with_attention_backend(attention());
                let cuda = match self.runtime.gpu_memory() {
                    Some(bytes) => cuda.with_memory_limit(bytes),
                    None => cuda,
                };
                vec![cuda.build().error_on_failure(), cpu]
            }
        };
        let builder = Session::builder(self.runtime.environment())?;
        let builder = match profile {
            Some(profile) => builder.with_profiling(profile.prefix())?,
            None => builder,
        };
        builder
            // Nothing is registered that the list does not name.
            .with_auto_device(AutoDevicePolicy::PreferCPU)?
            .with_execution_providers(providers)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            // Cores are used by running several sessions: no hand-over between threads within a run, and no
            // thread that spins for work while Kafka wants the core.
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            // A pattern is remembered per input shape, and batches rarely repeat theirs.
            .with_memory_pattern(false)?
            .commit_from_memory(self.bytes)
    }
}

/// Every kernel for attention but cuDNN's, which is built anew for each shape of a batch, for tens of milliseconds.
fn attention() -> AttentionBackend {
    AttentionBackend::FLASH_ATTENTION
        | AttentionBackend::EFFICIENT_ATTENTION
        | AttentionBackend::TRT_FUSED_ATTENTION
        | AttentionBackend::TRT_FLASH_ATTENTION
        | AttentionBackend::TRT_CROSS_ATTENTION
        | AttentionBackend::MATH
}

/// Puts the loader's and the driver's words into what is missing and where it comes from.
fn cuda_problem(message: &str) -> String {
    let text = message.to_lowercase();
    let missing = if text.contains("available memory of") || text.contains("failed to allocate memory") {
        "it needs more of the GPU's memory than is free, or than `gpu_session_mib` allows"
    } else if text.contains("libcudnn") {
        "cuDNN 9 is missing"
    } else if text.contains("providers_") && text.contains("cannot open") && !text.contains("libcu") {
        "libonnxruntime_providers_cuda.so or libonnxruntime_providers_shared.so is missing beside the ONNX Runtime library"
    } else if ["libcublas", "libcudart", "libcufft", "libcurand", "libnvrtc"]
        .iter()
        .any(|lib| text.contains(lib))
    {
        "a CUDA 13 library is missing"
    } else if text.contains("libcuda.so")
        || text.contains("driver")
        || text.contains("no cuda-capable device")
    {
        "there is no NVIDIA GPU, or its driver is missing or too old"
    } else {
        return message.to_owned();
    };
    format!("{missing} ({message})")
}

#[cfg(test)]
mod tests {
    use super::cuda_problem;

    #[test]
    fn what_cuda_lacks_is_told_apart() {
        let says = |message: &str| cuda_problem(message).split(" (").next().unwrap().to_owned();
        assert_eq!(
            says(
                "Failed to load library libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open"
            ),
            "cuDNN 9 is missing"
        );
        assert_eq!(
            says(
                "Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open"
            ),
            "a CUDA 13 library is missing"
        );
        assert_eq!(
            says("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"),
            "there is no NVIDIA GPU, or its driver is missing or too old"
        );
        assert_eq!(
            says("/opt/libonnxruntime_providers_cuda.so: cannot open shared object file"),
            "libonnxruntime_providers_cuda.so or libonnxruntime_providers_shared.so is missing beside the ONNX Runtime library"
        );
        assert!(
            says("Failed to load library /opt/libonnxruntime_providers_shared.so with error: cannot open shared object file")
                .ends_with("is missing beside the ONNX Runtime library")
        );
        assert_eq!(
            says("Available memory of 50432 is smaller than requested bytes of 1179648"),
            "it needs more of the GPU's memory than is free, or than `gpu_session_mib` allows"
        );
        assert_eq!(says("something new"), "something new");
    }
}
