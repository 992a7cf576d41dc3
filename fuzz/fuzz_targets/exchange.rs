//! libFuzzer's way into `epp_fuzz_targets::exchange`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| epp_fuzz_targets::exchange::run(input));
