//! Whose texts and names to use where versions of the Go EPP differ.

use clap::ValueEnum;

/// A generation of the Go EPP. It decides over error texts, reason headers and metric names; scheduling follows the
/// configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Compat {
    /// GIE v0.5.1, of the `InferenceModel` era; also what flags in camelCase ask for.
    #[value(name = "v0.5.1")]
    V0_5_1,
    /// GIE v1.0.1.
    #[value(name = "v1.0.1")]
    V1_0_1,
    /// GIE v1.5.0.
    #[value(name = "v1.5")]
    V1_5,
    /// llm-d-router.
    #[value(name = "llm-d")]
    LlmD,
}
