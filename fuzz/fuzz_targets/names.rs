//! libFuzzer's way into `epp_fuzz_targets::names`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| epp_fuzz_targets::names::run(input));
