//! libFuzzer's way into `epp_fuzz_targets::endpoints`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| epp_fuzz_targets::endpoints::run(input));
