#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| twinlane_fuzz_targets::avro_schema(data));
