//! The nouns and traits of `epp`. No I/O, no clock, no randomness of its own: time and chance are arguments.
//!
//! Twelve words, in reading order:
//!
//! 1. An [`Endpoint`](endpoint::Endpoint) is one `ip:port` of a model server; its [`Load`](endpoint::Load) is what one
//!    cycle sees of it.
//! 2. A [`Snapshot`](snapshot::Snapshot) is the immutable list of endpoints of a pool at one moment.
//! 3. [`Candidates`](snapshot::Candidates) are the endpoints of a snapshot that are still in the running.
//! 4. An [`InferenceRequest`](request::InferenceRequest) is what the picker knows of a client's request.
//! 5. A [`RequestSlot`](slot::RequestSlot) is a typed value that one plugin leaves on a request for another.
//! 6. A [`Cycle`](scheduling::Cycle) is one decision being made; everything below is a pure function of it.
//! 7. A [`Filter`](scheduling::Filter) removes candidates, 8. a [`Scorer`](scheduling::Scorer) rates them in \[0, 1\],
//!    9. a [`Picker`](scheduling::Picker) chooses among them, 10. a
//!    [`ProfileHandler`](scheduling::ProfileHandler) says which profiles run and makes a
//!    [`Decision`](scheduling::Decision) of their results.
//! 11. A [`Reservation`](endpoint::Reservation) is the load that a decided request puts on its endpoint, until it ends.
//! 12. A [`Plugin`](plugin::Plugin) is a named set of these capabilities, built from a
//!     [`PluginType`](plugin::PluginType).

pub mod answer;
pub mod attribute;
pub mod changes;
pub mod data;
pub mod endpoint;
pub mod lifecycle;
pub mod lora;
pub mod metric_spec;
pub mod parameters;
pub mod parsing;
pub mod plugin;
pub mod prompt;
pub mod request;
pub mod saturation;
pub mod scheduling;
pub mod slot;
pub mod snapshot;
pub mod time;
