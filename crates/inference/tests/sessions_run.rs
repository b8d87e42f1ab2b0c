//! The pool with real models: batches of two tasks on two threads.

mod support;

use std::time::Duration;

use support::{input, number, output, path, real, row, runtime};
use twinlane_inference::{Batcher, Model, ModelSource, Sessions};
use twinlane_pipeline::{Device, Dim, Kind, OutputKind};

#[test]
fn two_tasks_on_two_threads_answer_every_event_once() {
    let linear = (path("linear"), [input("x", Kind::Real, &[Dim::Fixed(3)])]);
    let root = (path("root"), [input("x", Kind::Real, &[])]);
    let outputs = [output("y", OutputKind::Number)];
    let load = |(path, inputs): &(std::path::PathBuf, [_; 1])| {
        let devices = &[Device::Cpu];
        let source = ModelSource {
            task: "t",
            path,
            inputs,
            outputs: &outputs,
            places: None,
            devices,
            max_batch: 16,
            parity: None,
            sha256: None,
        };
        Model::load_for(&runtime(), source, |_| 2).unwrap()
    };
    let per_thread = load(&linear).into_iter().zip(load(&root)).map(|(linear, root)| vec![linear, root]);
    let mut sessions = Sessions::start(per_thread.collect()).unwrap();
    let mut batcher = Batcher::new(2, 16);
    for n in 0..500_u32 {
        let task = usize::from(n % 3 == 0);
        let x = if task == 1 {
            row([real(&[f64::from(n).powi(2)])])
        } else {
            row([real(&[f64::from(n), 0.0, 0.0])])
        };
        batcher.push(task, n, x);
    }
    let mut answered = vec![false; 500];
    while answered.contains(&false) {
        while sessions.idle() > 0 {
            let Some(batch) = batcher.next_for(sessions.idle()) else { break };
            let task = batch.task;
            sessions.submit([batch].into_iter().chain(batcher.more_of(task, 1)).collect());
        }
        let together = sessions.results().recv_timeout(Duration::from_secs(20)).expect("a batch is running");
        sessions.done(&together);
        for ran in together {
            for (n, answer) in ran.tags.into_iter().zip(ran.results.unwrap()) {
                let expected = if ran.task == 1 { f64::from(n) } else { f64::from(n) + 0.5 };
                assert_eq!(number(&answer), expected);
                assert!(!std::mem::replace(&mut answered[n as usize], true), "{n} came twice");
            }
        }
    }
    assert_eq!((batcher.next_for(1), sessions.idle()), (None, 2));
}
