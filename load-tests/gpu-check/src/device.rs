//! The device, and how busy it is.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::Serialize;
use twinlane_pipeline::Device;

/// What it is.
#[derive(Debug, Serialize)]
pub(crate) struct Description {
    device: &'static str,
    name: String,
    driver: String,
}

pub(crate) fn describe(device: Device) -> Description {
    let (name, driver) = match device {
        Device::Cuda => {
            let told = Command::new("nvidia-smi")
                .args(["--query-gpu=name,driver_version", "--format=csv,noheader"])
                .output()
                .ok()
                .and_then(|output| String::from_utf8(output.stdout).ok())
                .unwrap_or_default();
            let first = told.lines().next().unwrap_or("unknown, unknown").to_owned();
            let (name, driver) = first.split_once(", ").unwrap_or((&first, "unknown"));
            (name.to_owned(), driver.to_owned())
        }
        Device::Cpu => {
            let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let name = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
            (name.trim_start_matches([' ', '\t', ':']).to_owned(), String::new())
        }
    };
    Description { device: device.as_str(), name, driver }
}

/// Reads the GPU's utilisation, in per cent, every 100 ms until it is stopped.
pub(crate) struct Utilisation {
    child: Option<Child>,
    readings: Arc<Mutex<Vec<f64>>>,
    thread: Option<JoinHandle<()>>,
}

impl Utilisation {
    /// Nothing is read where there is no `nvidia-smi`.
    pub(crate) fn watch() -> Self {
        let readings: Arc<Mutex<Vec<f64>>> = Arc::default();
        let mut child = Command::new("nvidia-smi")
            .args(["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok();
        let thread = child.as_mut().and_then(|child| child.stdout.take()).map(|out| {
            let readings = Arc::clone(&readings);
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if let Ok(percent) = line.trim().parse() {
                        readings.lock().unwrap_or_else(PoisonError::into_inner).push(percent);
                    }
                }
            })
        });
        Self { child, readings, thread }
    }

    /// The mean since it was begun; the first two readings still tell of before.
    pub(crate) fn mean(mut self) -> Option<f64> {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = readings.get(2..)?;
        (!counted.is_empty()).then(|| counted.iter().sum::<f64>() / counted.len() as f64)
    }
}
