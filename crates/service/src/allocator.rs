//! What every allocation of a service comes from, those of librdkafka and ONNX Runtime included. A record is allocated on one
//! thread and freed on another, which the system's allocator takes badly: see docs/decisions/0014-jemalloc.md. How it gives
//! memory back is set in `.cargo/config.toml`.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
