//! What the README and the pipelines folder show is right: every pipeline passes `twinlane check`, models included, and
//! the README's file is the one that lies in the folder.

use std::{
    path::Path,
    process::{Command, Output},
};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli lies in the repository")
}

fn twinlane(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinlane"));
    command.args(arguments).current_dir(repository()).output().expect("twinlane starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn checked(pipeline: &str) -> String {
    let output = twinlane(&["check", pipeline]);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn the_example_of_the_readme_passes_its_check() {
    let said = checked("pipelines/example-iris");
    assert!(said.contains("router: not needed") && said.contains("iris.onnx: fits"), "{said}");
}

#[test]
fn the_reference_pipeline_passes_its_check() {
    let said = checked("pipelines/commerce");
    assert!(said.contains("commerce.router.precision") && said.contains("all of it is right"), "{said}");
}

#[test]
fn nothing_is_gathered_for_anybody() {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinlane"));
    command.args(["check", "pipelines/commerce"]).current_dir(repository());
    command.env("HOME", home.path()).env_remove("XDG_CACHE_HOME").env_remove("ORT_DISABLE_TELEMETRY");
    assert!(command.status().expect("twinlane starts").success());
    let left: Vec<_> = std::fs::read_dir(home.path()).expect("a folder").collect();
    assert!(left.is_empty(), "ONNX Runtime's telemetry, or whose is this: {left:?}");
}

#[test]
fn the_readme_shows_the_examples_files_as_they_are() {
    let read = |file: &str| std::fs::read_to_string(repository().join(file)).expect(file);
    let readme = read("README.md");
    let pipeline = read("pipelines/example-iris/pipeline.yaml");
    assert!(readme.contains(&format!("```yaml\n{pipeline}```")), "the pipeline file is another one");
    let script = read("pipelines/example-iris/train.py");
    let shown =
        readme.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a script");
    for line in shown.lines() {
        assert!(script.contains(line), "`{line}` is not in train.py");
    }
}

#[test]
fn no_page_waits_for_its_figures() {
    for page in ["README.md", "pipelines/commerce/README.md"] {
        let text = std::fs::read_to_string(repository().join(page)).expect(page);
        for gap in ["<!--", "NUMBERS", "TIME_"] {
            assert!(!text.contains(gap), "{page} has a gap at {gap}");
        }
    }
}

#[test]
fn a_wrong_file_is_refused_with_its_place_and_exit_code_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let right = std::fs::read_to_string(repository().join("pipelines/example-iris/pipeline.yaml"))
        .expect("the example");
    let file = folder.path().join("pipeline.yaml");
    std::fs::write(&file, right.replace("task: species", "task: specie")).expect("written");
    let output = twinlane(&["check", "--schemas", "schemas", &folder.path().display().to_string()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("pipeline.yaml:5:") && said.contains("did you mean `species`"), "{said}");
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_exit_code_6() {
    let folder = tempfile::tempdir().expect("a folder");
    let example = repository().join("pipelines/example-iris");
    let right = std::fs::read_to_string(example.join("pipeline.yaml")).expect("the example");
    std::fs::write(folder.path().join("pipeline.yaml"), right.replace(", petal_width]", "]"))
        .expect("written");
    std::fs::copy(example.join("iris.onnx"), folder.path().join("iris.onnx")).expect("copied");
    let folder = folder.path().display().to_string();
    let output = twinlane(&["check", "--schemas", "schemas", &folder]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("input `X`") && said.contains("give it 4 columns"), "{said}");
    let output = twinlane(&["check", "--schemas", "schemas", "--no-models", &folder]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_schema_of_pipeline_files_is_json() {
    let schema: serde_json::Value = serde_json::from_slice(&twinlane(&["schema"]).stdout).expect("JSON");
    assert!(schema["properties"]["routes"].is_object(), "{schema}");
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    // Nobody listens on port 1.
    let output = twinlane(&["topics", "create", "--brokers", "localhost:1", "pipelines/example-iris"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("no Kafka broker answered at localhost:1"), "{said}");
}
