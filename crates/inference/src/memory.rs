//! Memory that models leave behind. ONNX Runtime frees it, and the system's allocator keeps it: in pieces between what still
//! lives, one more with each change of models (measured: 20 MiB after ten changes of a model of 4).
#![expect(unsafe_code, reason = "the system's allocator has no safe name for it")]

/// Gives back to the system what was freed. Takes milliseconds, in which other threads may wait for the allocator.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointers, and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}
