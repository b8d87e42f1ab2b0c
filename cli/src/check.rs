//! `twinlane check`: is the file right, do the models fit, and what would run?

use std::{io::Write as _, process::ExitCode};

use twinlane_inference::{ModelSource, OnnxRuntime, check_contract};
use twinlane_pipeline::{Device, ModelFile, Plan, Variant};
use twinlane_service::{Failure, LoadedPipeline};

use crate::{arguments::Check, locate, printed};

pub(crate) fn check(arguments: &Check) -> Result<ExitCode, Failure> {
    let located = locate::pipeline(&arguments.pipeline, None, Some(&arguments.runtime))?;
    let plan = &located.loaded.plan;
    printed(|out| write!(out, "{plan}"))?;
    // Reads the vocabularies, whether or not there are models yet.
    for task in 0..plan.tasks.len() {
        located.loaded.encoder(task)?;
    }
    if arguments.no_models {
        return printed(|out| writeln!(out, "\nmodels: not loaded; the file is right"));
    }
    let runtime = OnnxRuntime::load(located.settings.onnxruntime.as_deref())?;
    printed(|out| writeln!(out, "\nmodels (loaded on the CPU)"))?;
    let mut failed = None;
    for model in named(plan) {
        match fits(&located.loaded, &runtime, &model) {
            Ok(digest) => {
                let unused = if model.used { "" } else { ", not used by a lane" };
                printed(|out| {
                    writeln!(
                        out,
                        "  {:<24} {:<10} {}: fits, digest {digest}{unused}",
                        plan.tasks[model.task].name,
                        model.variant.as_str(),
                        model.file.file.display()
                    )
                })?;
            }
            // All that is wrong in one go: the last one is told by main.
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure) {
                    eprintln!("twinlane: {earlier}");
                }
            }
        }
    }
    match failed {
        Some(failure) => Err(failure),
        None => printed(|out| writeln!(out, "\nall of it is right")),
    }
}

/// A model file that the pipeline names.
#[derive(Debug, PartialEq)]
struct Named<'p> {
    task: usize,
    variant: Variant,
    file: &'p ModelFile,
    used: bool,
    max_batch: usize,
}

/// Every model of the plan. One that no lane uses is held to the largest batch of any lane.
fn named(plan: &Plan) -> Vec<Named<'_>> {
    let all_lanes = plan.lanes.iter().map(|lane| lane.max_batch.get()).max().unwrap_or(1);
    let mut named = Vec::new();
    for (index, task) in plan.tasks.iter().enumerate() {
        for variant in [Variant::Full, Variant::Distilled] {
            let Some(file) = task.models.get(variant) else { continue };
            let users =
                plan.lanes.iter().filter(|lane| lane.variant == variant && lane.tasks.contains(&index));
            let batch = users.map(|lane| lane.max_batch.get()).max();
            let max_batch = batch.unwrap_or(all_lanes);
            named.push(Named { task: index, variant, file, used: batch.is_some(), max_batch });
        }
    }
    named
}

fn fits(loaded: &LoadedPipeline, runtime: &OnnxRuntime, model: &Named<'_>) -> Result<String, Failure> {
    let task = &loaded.plan.tasks[model.task];
    let encoder = loaded.encoder(model.task)?;
    let source = ModelSource {
        task: &task.name,
        path: &loaded.path(&model.file.file),
        inputs: encoder.specs(),
        outputs: &task.outputs,
        places: Some(&task.places),
        devices: &[Device::Cpu],
        max_batch: model.max_batch,
        parity: None,
        sha256: model.file.sha256.as_deref(),
    };
    Ok(check_contract(runtime, &source)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_model_is_checked_at_the_batch_of_its_lane() {
        let text = "\
pipeline: shop
sources: { events: { topic: e, format: json } }
routes: [{ from: events, task: t, lane: precision }]
tasks:
  t:
    models: { full: big.onnx, distilled: small.onnx }
    inputs: { x: { columns: [a] } }
    outputs: { y: { tensor: y, kind: number } }
    publish: { topic: s, format: json }
lanes: { precision: { model: full, device: [cpu], max_batch: 8 } }
dead_letters: { topic: d }
";
        let plan = Plan::parse(text, "pipeline.yaml").unwrap();
        let found: Vec<_> =
            named(&plan).iter().map(|m| (m.file.file.display().to_string(), m.used, m.max_batch)).collect();
        assert_eq!(found, [("big.onnx".to_owned(), true, 8), ("small.onnx".to_owned(), false, 8)]);
    }
}
