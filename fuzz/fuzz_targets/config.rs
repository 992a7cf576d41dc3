//! libFuzzer's way into `epp_fuzz_targets::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| epp_fuzz_targets::config::run(input));
