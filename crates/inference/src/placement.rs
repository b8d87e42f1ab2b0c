//! Where a model's nodes really run. A session with the CUDA provider also has the CPU's, and ONNX Runtime gives
//! the CPU every node that CUDA has no kernel for: a scikit-learn tree under `cuda` opens, and never touches the
//! GPU. So the first session of such a device is profiled over one made-up row, and the profile, which names the
//! provider of every node, has to bear the device out.
//!
//! Tests run the profiling itself on the CPU; on a GPU it has run for models that CUDA runs whole (docs/gpu.md).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ort::session::Session;
use serde::Deserialize;
use tempfile::TempDir;
use twinlane_pipeline::Device;

/// These carry numbers about and work out shapes. ONNX Runtime runs some of them on the CPU by choice beside a
/// GPU, and the copies between the two on the GPU, so they say nothing about where the model runs.
const CARRIERS: [&str; 17] = [
    "Cast",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MemcpyFromHost",
    "MemcpyToHost",
    "Range",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Squeeze",
    "Unsqueeze",
];

/// One node of these is a whole estimator (`ai.onnx.ml`), however many small nodes prepare its numbers.
const ESTIMATORS: [&str; 7] = [
    "LinearClassifier",
    "LinearRegressor",
    "SVMClassifier",
    "SVMRegressor",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
];

/// A profile that a session writes, in a folder that goes with it.
pub(crate) struct Profile {
    _folder: TempDir,
    prefix: PathBuf,
}

impl Profile {
    pub(crate) fn begin() -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("twinlane-profile-").tempdir();
        let folder =
            folder.map_err(|why| format!("no folder for the profile that tells where it runs: {why}"))?;
        Ok(Self { prefix: folder.path().join("run"), _folder: folder })
    }

    /// What the file's name begins with; ONNX Runtime adds the time.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Ends the profiling of a session that was opened with this profile and has run once.
    pub(crate) fn end(&self, session: &mut Session) -> Result<Placement, String> {
        let file = session.end_profiling().map_err(|why| why.to_string())?;
        let text = fs::read_to_string(&file).map_err(|why| format!("profile {file}: {why}"))?;
        ran_on(&text)
    }
}

/// Which operators ran on which provider, carriers left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Provider → operator of each node.
    providers: BTreeMap<String, Vec<String>>,
}

/// Reads ONNX Runtime's profile of a run.
pub(crate) fn ran_on(profile: &str) -> Result<Placement, String> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(default)]
        cat: String,
        #[serde(default)]
        args: Args,
    }
    #[derive(Default, Deserialize)]
    struct Args {
        op_name: Option<String>,
        /// Missing on the waits before and after a node that some versions write.
        provider: Option<String>,
    }
    let events: Vec<Event> = serde_json::from_str(profile)
        .map_err(|why| format!("ONNX Runtime's profile is unreadable: {why}"))?;
    let mut placement = Placement::default();
    for event in events.into_iter().filter(|event| event.cat == "Node") {
        if let Args { op_name: Some(operator), provider: Some(provider) } = event.args
            && !CARRIERS.contains(&&*operator)
        {
            placement.providers.entry(provider).or_default().push(operator);
        }
    }
    Ok(placement)
}

impl Placement {
    /// Whether the device runs the model: no estimator elsewhere, and at least half of the nodes that compute.
    /// Returns the share, `11 of 12, elsewhere TopK`, or why it is not this device's.
    pub(crate) fn verify(&self, device: Device) -> Result<String, String> {
        let name = match device {
            Device::Cpu => "CPUExecutionProvider",
            Device::Cuda => "CUDAExecutionProvider",
        };
        let here = self.providers.get(name).map_or(0, Vec::len);
        let mut elsewhere: Vec<&str> = self
            .providers
            .iter()
            .filter(|(provider, _)| *provider != name)
            .flat_map(|(_, operators)| operators.iter().map(String::as_str))
            .collect();
        let mut share = format!("{here} of {}", here + elsewhere.len());
        let runs = here > 0
            && here >= elsewhere.len()
            && !elsewhere.iter().any(|operator| ESTIMATORS.contains(operator));
        elsewhere.sort_unstable();
        elsewhere.dedup();
        if !elsewhere.is_empty() {
            share = format!("{share}, elsewhere {}", elsewhere.join(", "));
        }
        if runs {
            Ok(share)
        } else {
            Err(format!(
                "it opens the model and does not run it (nodes here: {share}); list `cpu` for it, or export it with \
                 operators that {} has",
                device.as_str()
            ))
        }
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
