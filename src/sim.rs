//! Simulated model servers: vLLM seen from outside, without a GPU. Entry points: [`engine::Engine`] (pure, in virtual
//! time) and [`server::SimServer`] (the same engine at real time behind HTTP).
//!
//! Modelled: steps with a token budget shared by decodes and prefill chunks, seats, a first-come queue, KV blocks,
//! the prefix cache with its eviction order, preemption with recomputation, step times as a sum of linear costs,
//! the routes of vLLM that generate, embed, count and render, and Ollama's chat, with their streams and errors, and the
//! metrics page.
//!
//! Not modelled: what the text says, early ends (every answer is as long as it was asked to be), stored responses,
//! LoRA, data parallelism, KV events, jitter, the API server's own time, asynchronous scheduling. Of the split between
//! prefill and decode workers there is the request of the one to the other, and nothing of what it saves.

pub mod args;
pub mod engine;
pub mod server;
pub mod text;
