//! Copies between the host and a CUDA device, by the CUDA runtime that ONNX Runtime's provider has loaded. ONNX Runtime has
//! no call for them, and the way around (a model that copies its input) costs more than the copy.

#![expect(unsafe_code, reason = "the CUDA runtime is a C library")]

use std::{
    ffi::{c_int, c_void},
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use libloading::Library;

/// The runtime's library, by the name under which the provider loads it.
const RUNTIME: &str = "libcudart.so.13";
const TO_DEVICE: c_int = 1;
const TO_HOST: c_int = 2;

type Memcpy = unsafe extern "C" fn(*mut c_void, *const c_void, usize, c_int) -> c_int;

/// While one thread captures, no other of the process may call CUDA: both would fail, and the session that captured could
/// not be used any more.
static CAPTURING: RwLock<()> = RwLock::new(());

/// One session captures at a time: two that take turns would leave no moment for models that run.
static CAPTURERS: Mutex<()> = Mutex::new(());

/// Held by a session for as long as it captures its runs.
pub(crate) fn capturer() -> MutexGuard<'static, ()> {
    CAPTURERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held while a model runs on a CUDA device.
pub(crate) fn running() -> RwLockReadGuard<'static, ()> {
    CAPTURING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held while a run is captured.
pub(crate) fn capturing() -> RwLockWriteGuard<'static, ()> {
    CAPTURING.write().unwrap_or_else(PoisonError::into_inner)
}

/// Copies, each over when the call returns.
pub(crate) struct Copies {
    memcpy: Memcpy,
    /// The call lives in it.
    _library: Library,
}

/// A stretch of memory, on the host or on the device.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    at: *mut c_void,
    bytes: usize,
}

// SAFETY: it is an address; what uses it says why it is valid then.
unsafe impl Send for Stretch {}

impl Stretch {
    pub(crate) fn new(at: *mut c_void, bytes: usize) -> Self {
        Self { at, bytes }
    }
}

impl Copies {
    /// Finds the calls. Without a loaded CUDA provider it fails as a rule.
    pub(crate) fn load() -> Result<Self, String> {
        // SAFETY: the library is NVIDIA's runtime, which the provider has loaded already; loading it has no effect of its own.
        let library = unsafe { Library::new(RUNTIME) }.map_err(|why| format!("{RUNTIME}: {why}"))?;
        // SAFETY: the signature is cudaMemcpy's, which has not changed since CUDA 1.
        let memcpy = unsafe { library.get::<Memcpy>(b"cudaMemcpy\0") };
        let memcpy = *memcpy.map_err(|why| format!("{RUNTIME}: {why}"))?;
        Ok(Self { memcpy, _library: library })
    }

    /// Copies what the host's stretch holds to the beginning of the device's.
    ///
    /// # Safety
    /// Both must be allocated for as long as the call lasts, and nothing may read or write the device's meanwhile.
    pub(crate) unsafe fn to_device(&self, host: Stretch, device: Stretch) -> Result<(), String> {
        assert!(host.bytes <= device.bytes, "{} bytes into {}", host.bytes, device.bytes);
        // SAFETY: the caller's promise, and the lengths fit.
        self.check(unsafe { (self.memcpy)(device.at, host.at, host.bytes, TO_DEVICE) })
    }

    /// Copies what the device's stretch holds to the beginning of the host's.
    ///
    /// # Safety
    /// As for [`Copies::to_device`], and nothing may read the host's stretch meanwhile.
    pub(crate) unsafe fn to_host(&self, device: Stretch, host: Stretch) -> Result<(), String> {
        assert!(device.bytes <= host.bytes, "{} bytes into {}", device.bytes, host.bytes);
        // SAFETY: the caller's promise, and the lengths fit.
        self.check(unsafe { (self.memcpy)(host.at, device.at, device.bytes, TO_HOST) })
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        match code {
            0 => Ok(()),
            code => Err(format!("cudaMemcpy fails with code {code}")),
        }
    }
}
