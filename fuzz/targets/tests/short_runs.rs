//! A short run of every fuzz target: its corpus, then inputs made from it for some seconds, always the same ones. What
//! fails is named by its seed, and the input is left in a file for `cargo xtask fuzz TARGET --input FILE`.
//!
//! An input that overflows the stack kills the whole process, so it can name nothing; it still lies in that file,
//! `<target folder>/tmp/fuzz-<target>.input`, because every input is written there before it is tried.

mod mutate;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use mutate::Mutator;
use twinlane_fuzz_targets::{TARGETS, Target};

/// How long inputs are made for one target.
const TIME: Duration = Duration::from_secs(4);
/// No input of a few kilobytes may take longer, in a debug build, on a machine that does other things too.
const HANGS: Duration = Duration::from_secs(20);
/// Where the seeds of the inputs begin; each input has the next.
const FIRST_SEED: u64 = 1;

#[test]
fn avro_payloads_break_nothing() {
    short_run("avro_payload");
}

#[test]
fn avro_schemas_break_nothing() {
    short_run("avro_schema");
}

#[test]
fn json_events_break_nothing() {
    short_run("json_event");
}

#[test]
fn headers_break_nothing() {
    short_run("headers");
}

#[test]
fn pipeline_files_break_nothing() {
    short_run("pipeline_file");
}

#[test]
fn cel_rules_break_nothing() {
    short_run("cel_rule");
}

#[test]
fn libfuzzer_has_the_same_targets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
    let files = fs::read_dir(folder).expect("readable").map(|file| file.expect("readable").path());
    let mut programs: Vec<_> = files.map(|file| file.file_stem().expect("a file").to_owned()).collect();
    let mut names = TARGETS.map(|(name, _)| name);
    programs.sort();
    names.sort_unstable();
    assert_eq!(programs, names);
}

/// What is being tried, for whoever has to say what failed.
type Trying = Arc<Mutex<String>>;

fn short_run(name: &'static str) {
    let target = TARGETS.into_iter().find(|(known, _)| *known == name).expect("a known target").1;
    let corpus = corpus(name);
    let input = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}.input"));
    let trying = Trying::default();
    let (done, end) = mpsc::channel();
    let run = {
        let (input, trying) = (input.clone(), trying.clone());
        // With the stack of a thread that serves events.
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(move || tried(target, &corpus, &input, &trying, &done)).expect("a thread starts")
    };
    let failure = loop {
        match end.recv_timeout(HANGS) {
            Ok(Tried::Another) => {}
            Ok(Tried::All(count)) => {
                println!("{name}: {count} inputs");
                break None;
            }
            Ok(Tried::Failed(why)) => break Some(why),
            Err(_) => break Some(format!("it takes longer than {} s", HANGS.as_secs())),
        }
    };
    if let Some(why) = failure {
        let what = trying.lock().expect("nothing panics with it").clone();
        panic!("{name}: {what}: {why}; the input is {}", input.display());
    }
    run.join().expect("what it runs is caught");
    fs::remove_file(input).expect("it was written here");
}

enum Tried {
    /// About every second; so that a hang is noticed.
    Another,
    All(u64),
    Failed(String),
}

fn tried(
    target: Target,
    corpus: &[(String, Vec<u8>)],
    input: &Path,
    trying: &Trying,
    done: &mpsc::Sender<Tried>,
) {
    let file = File::create(input).expect("cargo's folder for test files takes one");
    let mut said = Instant::now();
    let mut count = 0;
    let mut one = |what: String, bytes: &[u8]| {
        count += 1;
        *trying.lock().expect("nothing panics with it") = what;
        file.set_len(bytes.len() as u64).and_then(|()| file.write_all_at(bytes, 0)).expect("there is room");
        if said.elapsed() > Duration::from_secs(1) {
            said = Instant::now();
            let _ = done.send(Tried::Another);
        }
        match panic::catch_unwind(AssertUnwindSafe(|| target(bytes))) {
            Ok(()) => true,
            Err(why) => {
                let why = why.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned());
                let _ = done.send(Tried::Failed(why));
                false
            }
        }
    };
    for (name, bytes) in corpus {
        if !one(format!("corpus file {name}"), bytes) {
            return;
        }
    }
    let seeds: Vec<&[u8]> = corpus.iter().map(|(_, bytes)| &bytes[..]).collect();
    let ends = Instant::now() + TIME;
    for seed in FIRST_SEED.. {
        if Instant::now() > ends {
            break;
        }
        if !one(format!("seed {seed}"), &Mutator::new(seed).input(&seeds)) {
            return;
        }
    }
    let _ = done.send(Tried::All(count));
}

/// The corpus of a target, by file name, so that seeds mean the same everywhere.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    assert!(files.len() > 8, "a corpus of {} files for {name}", files.len());
    let read = |file: &PathBuf| {
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        (name, fs::read(file).expect("readable"))
    };
    files.iter().map(read).collect()
}
