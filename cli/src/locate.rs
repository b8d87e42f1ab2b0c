//! From what was typed to a loaded pipeline: where its file, its schemas and ONNX Runtime lie.

use std::path::{Path, PathBuf};

use twinlane_service::{Failure, Flags, LoadedPipeline, Settings};

use crate::arguments;

/// What a service without any settings takes for the schema folder.
const SCHEMAS: &str = "schemas";

/// A checked pipeline and the settings that go with it.
pub(crate) struct Located {
    pub(crate) settings: Settings,
    pub(crate) loaded: LoadedPipeline,
}

/// Finds and checks a pipeline. No Kafka, no models.
pub(crate) fn pipeline(
    arguments: &arguments::Pipeline,
    cluster: Option<&arguments::Cluster>,
    runtime: Option<&arguments::Runtime>,
) -> Result<Located, Failure> {
    let settings = settings(arguments, cluster, runtime)?;
    let loaded = LoadedPipeline::load(&settings)?;
    Ok(Located { settings, loaded })
}

/// The settings that go with a pipeline.
pub(crate) fn settings(
    arguments: &arguments::Pipeline,
    cluster: Option<&arguments::Cluster>,
    runtime: Option<&arguments::Runtime>,
) -> Result<Settings, Failure> {
    let file = file(&arguments.pipeline)?;
    let flags = Flags {
        pipeline: Some(file.clone()),
        schemas: arguments.schemas.clone(),
        brokers: cluster.and_then(|c| c.brokers.clone()),
        onnxruntime: runtime.and_then(|r| r.onnxruntime.clone()),
        settings: arguments.settings.clone(),
        ..Flags::default()
    };
    let mut settings = Settings::load(&flags)?;
    if arguments.schemas.is_none() && settings.schemas == Path::new(SCHEMAS) {
        settings.schemas = schemas(&file).unwrap_or(settings.schemas);
    }
    if runtime.is_some() && settings.onnxruntime.is_none() {
        settings.onnxruntime = fetched_runtime();
    }
    Ok(settings)
}

/// The pipeline file: the path itself, or the `pipeline.yaml` in it.
fn file(typed: &Path) -> Result<PathBuf, Failure> {
    if !typed.is_dir() {
        // That it cannot be read is said where it is read.
        return Ok(typed.to_owned());
    }
    ["pipeline.yaml", "pipeline.yml"]
        .map(|name| typed.join(name))
        .into_iter()
        .find(|file| file.is_file())
        .ok_or_else(|| {
            let folder = typed.display();
            Failure::Invalid(format!("no pipeline.yaml lies in {folder}; name the pipeline file itself"))
        })
}

/// The folder `schemas` beside the pipeline file, or in the next folder above that has one.
fn schemas(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    file.ancestors()
        .skip(1)
        .map(|folder| folder.join(SCHEMAS))
        .find(|folder| folder.join("index.json").is_file())
}

/// The library that `cargo xtask setup` has put into its cache; the newest by name.
fn fetched_runtime() -> Option<PathBuf> {
    newest_runtime(&cache()?)
}

fn newest_runtime(cache: &Path) -> Option<PathBuf> {
    let folders = std::fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .filter(|folder| {
            folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("onnxruntime-"))
        })
        .map(|folder| folder.join("libonnxruntime.so"))
        .filter(|library| library.is_file())
        .max()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a development convenience of this tool; services never look there"
)]
fn cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XTASK_CACHE").or_else(|| {
        let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(caches.join("twinlane"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_the_pipeline_file_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let refused = file(folder.path()).expect_err("an empty folder").to_string();
        assert!(refused.contains("name the pipeline file itself"), "{refused}");
        let inside = folder.path().join("pipeline.yaml");
        std::fs::write(&inside, "").unwrap();
        assert_eq!(file(folder.path()).unwrap(), inside);
        assert_eq!(file(&inside).unwrap(), inside);
    }

    #[test]
    fn schemas_are_found_beside_the_pipeline_or_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = folder.path().join("pipelines/shop/pipeline.yaml");
        let above = folder.path().join("schemas");
        std::fs::create_dir_all(&above).unwrap();
        assert_eq!(schemas(&pipeline), None, "a folder without an index is none");
        std::fs::write(above.join("index.json"), "[]").unwrap();
        assert_eq!(schemas(&pipeline), Some(above));
        let beside = folder.path().join("pipelines/shop/schemas");
        std::fs::create_dir_all(&beside).unwrap();
        std::fs::write(beside.join("index.json"), "[]").unwrap();
        assert_eq!(schemas(&pipeline), Some(beside));
    }

    #[test]
    fn the_newest_fetched_library_is_taken() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(newest_runtime(cache.path()), None);
        for name in ["onnxruntime-1.30.0", "onnxruntime-1.31.1", "kafka-4.4.0"] {
            let folder = cache.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("libonnxruntime.so"), "").unwrap();
        }
        assert_eq!(
            newest_runtime(cache.path()),
            Some(cache.path().join("onnxruntime-1.31.1/libonnxruntime.so"))
        );
    }
}
