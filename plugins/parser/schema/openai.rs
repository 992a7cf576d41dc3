//! The requests of the `OpenAI` APIs as schemas.
//!
//! No stricter than vLLM: `null` is taken where it takes that, and bounds are those beyond which it refuses. Members
//! that vary between servers are judged loosely or not at all, and no member by another one.

use super::{Member, Members, Schema};

/// Chat completions.
pub(in crate::parser) static CHAT: Schema = object(
    &[("messages", Schema::List(&MESSAGE, 1))],
    &[
        COMMON,
        GENERATION,
        &[
            ("max_completion_tokens", NULL_OR_INTEGER),
            ("logprobs", NULL_OR_BOOL),
            ("top_logprobs", NULL_OR_INTEGER),
            ("tools", Schema::Either(&[Schema::List(&TOOL, 0), Schema::Null])),
            ("tool_choice", TOOL_CHOICE),
            ("parallel_tool_calls", NULL_OR_BOOL),
            ("reasoning_effort", NULL_OR_STRING),
            ("include_reasoning", Schema::Bool),
            ("echo", Schema::Bool),
            ("documents", Schema::Either(&[Schema::List(&ANY_OBJECT, 0), Schema::Null])),
            ("chat_template", NULL_OR_STRING),
            ("chat_template_kwargs", NULL_OR_OBJECT),
            ("add_generation_prompt", Schema::Bool),
            ("continue_final_message", Schema::Bool),
            ("return_assistant_tokens_mask", Schema::Bool),
            ("media_io_kwargs", NULL_OR_OBJECT),
            ("mm_processor_kwargs", NULL_OR_OBJECT),
        ],
    ],
);

/// Completions.
pub(in crate::parser) static COMPLETIONS: Schema = object(
    &[("prompt", PROMPT)],
    &[
        COMMON,
        GENERATION,
        &[
            ("best_of", NULL_OR_INTEGER),
            ("echo", NULL_OR_BOOL),
            ("logprobs", NULL_OR_INTEGER),
            ("suffix", NULL_OR_STRING),
        ],
    ],
);

/// Responses.
pub(in crate::parser) static RESPONSES: Schema = object(
    &[("input", Schema::Either(&[ANY_STRING, Schema::List(&ITEM, 0)]))],
    &[
        COMMON,
        &[
            ("instructions", NULL_OR_STRING),
            ("previous_response_id", NULL_OR_STRING),
            ("prompt", NULL_OR_OBJECT),
            ("max_output_tokens", NULL_OR_INTEGER),
            ("max_tool_calls", NULL_OR_INTEGER),
            ("temperature", NULL_OR_NOT_NEGATIVE),
            ("top_p", NULL_OR_FRACTION),
            ("top_logprobs", NULL_OR_INTEGER),
            ("tools", Schema::Either(&[Schema::List(&ANY_OBJECT, 0), Schema::Null])),
            ("tool_choice", Schema::Either(&[ANY_STRING, ANY_OBJECT, Schema::Null])),
            ("parallel_tool_calls", NULL_OR_BOOL),
            ("include", Schema::Either(&[Schema::List(&ANY_STRING, 0), Schema::Null])),
            ("metadata", NULL_OR_OBJECT),
            ("reasoning", Schema::Either(&[object(&[], &[&[("effort", NULL_OR_STRING)]]), Schema::Null])),
            ("text", NULL_OR_OBJECT),
            ("background", NULL_OR_BOOL),
            ("store", NULL_OR_BOOL),
            ("truncation", Schema::Either(&[Schema::String(&["auto", "disabled"]), Schema::Null])),
        ],
    ],
);

/// Conversations: what they must have.
pub(in crate::parser) static CONVERSATIONS: Schema = object(&[("items", Schema::List(&ITEM, 1))], &[]);

/// Embeddings.
pub(in crate::parser) static EMBEDDINGS: Schema = object(
    &[("input", PROMPT)],
    &[COMMON, &[("encoding_format", ANY_STRING), ("dimensions", NULL_OR_INTEGER)]],
);

/// Images: what they must have.
pub(in crate::parser) static IMAGES: Schema = object(&[("prompt", ANY_STRING)], &[]);

const fn object(required: &'static [Member], optional: &'static [&'static [Member]]) -> Schema {
    Schema::Object(Members { required, optional })
}

const ANY_STRING: Schema = Schema::String(&[]);
const ANY_INTEGER: Schema = Schema::Integer { min: i64::MIN, max: i64::MAX };
const ANY_OBJECT: Schema = object(&[], &[]);
const NULL_OR_BOOL: Schema = Schema::Either(&[Schema::Bool, Schema::Null]);
const NULL_OR_INTEGER: Schema = Schema::Either(&[ANY_INTEGER, Schema::Null]);
const NULL_OR_STRING: Schema = Schema::Either(&[ANY_STRING, Schema::Null]);
const NULL_OR_OBJECT: Schema = Schema::Either(&[ANY_OBJECT, Schema::Null]);

const NULL_OR_NOT_NEGATIVE: Schema =
    Schema::Either(&[Schema::Number { min: 0.0, max: f64::INFINITY }, Schema::Null]);
const NULL_OR_PENALTY: Schema = Schema::Either(&[Schema::Number { min: -2.0, max: 2.0 }, Schema::Null]);
const NULL_OR_FRACTION: Schema = Schema::Either(&[Schema::Number { min: 0.0, max: 1.0 }, Schema::Null]);

/// Members that all APIs share which read a prompt.
const COMMON: &[Member] = &[
    ("model", NULL_OR_STRING),
    ("stream", NULL_OR_BOOL),
    ("user", NULL_OR_STRING),
    ("priority", ANY_INTEGER),
    ("request_id", ANY_STRING),
    ("cache_salt", NULL_OR_STRING),
    ("truncate_prompt_tokens", Schema::Either(&[Schema::Integer { min: -1, max: i64::MAX }, Schema::Null])),
];

/// Members that both APIs of completions share. A negative bound of tokens is none for some servers, so it is taken.
const GENERATION: &[Member] = &[
    ("max_tokens", NULL_OR_INTEGER),
    ("min_tokens", Schema::Integer { min: 0, max: i64::MAX }),
    ("n", Schema::Either(&[Schema::Integer { min: 1, max: i64::MAX }, Schema::Null])),
    ("temperature", NULL_OR_NOT_NEGATIVE),
    ("top_p", NULL_OR_FRACTION),
    ("top_k", Schema::Either(&[Schema::Integer { min: -1, max: i64::MAX }, Schema::Null])),
    ("min_p", NULL_OR_FRACTION),
    ("frequency_penalty", NULL_OR_PENALTY),
    ("presence_penalty", NULL_OR_PENALTY),
    ("repetition_penalty", NULL_OR_NOT_NEGATIVE),
    ("length_penalty", Schema::Number { min: f64::NEG_INFINITY, max: f64::INFINITY }),
    ("seed", NULL_OR_INTEGER),
    ("stop", Schema::Either(&[ANY_STRING, Schema::List(&ANY_STRING, 0), Schema::Null])),
    ("stop_token_ids", Schema::Either(&[Schema::List(&ANY_INTEGER, 0), Schema::Null])),
    ("allowed_token_ids", Schema::Either(&[Schema::List(&ANY_INTEGER, 0), Schema::Null])),
    ("bad_words", Schema::List(&ANY_STRING, 0)),
    ("logit_bias", NULL_OR_OBJECT),
    ("prompt_logprobs", NULL_OR_INTEGER),
    ("use_beam_search", Schema::Bool),
    ("ignore_eos", Schema::Bool),
    ("include_stop_str_in_output", Schema::Bool),
    ("skip_special_tokens", Schema::Bool),
    ("spaces_between_special_tokens", Schema::Bool),
    ("add_special_tokens", Schema::Bool),
    ("stream_options", STREAM_OPTIONS),
    ("response_format", Schema::Either(&[object(&[("type", ANY_STRING)], &[]), Schema::Null])),
    ("structured_outputs", NULL_OR_OBJECT),
    ("kv_transfer_params", NULL_OR_OBJECT),
    ("vllm_xargs", NULL_OR_OBJECT),
    ("return_token_ids", NULL_OR_BOOL),
    ("return_tokens_as_token_ids", NULL_OR_BOOL),
];

const STREAM_OPTIONS: Schema = Schema::Either(&[
    object(&[], &[&[("include_usage", NULL_OR_BOOL), ("continuous_usage_stats", NULL_OR_BOOL)]]),
    Schema::Null,
]);

/// Texts, token ids, or lists of them.
const PROMPT: Schema = Schema::Either(&[
    ANY_STRING,
    Schema::List(&Schema::Either(&[ANY_STRING, TOKEN, Schema::List(&TOKEN, 0)]), 1),
]);
const TOKEN: Schema = Schema::Integer { min: 0, max: u32::MAX as i64 };

/// A message of a chat.
const MESSAGE: Schema = object(
    &[("role", ANY_STRING)],
    &[&[
        ("content", Schema::Either(&[ANY_STRING, Schema::List(&PART, 0), Schema::Null])),
        ("name", NULL_OR_STRING),
        ("tool_call_id", NULL_OR_STRING),
        ("tool_calls", Schema::Either(&[Schema::List(&ANY_OBJECT, 0), Schema::Null])),
        ("reasoning", NULL_OR_STRING),
        ("refusal", NULL_OR_STRING),
    ]],
);

/// A part of a message. Media are where their type says, as an object with their address or only that; those that the
/// server has already may have none.
const PART: Schema = Schema::Either(&[
    ANY_STRING,
    object(
        &[],
        &[&[
            ("type", ANY_STRING),
            ("text", NULL_OR_STRING),
            ("image_url", MEDIA),
            ("audio_url", MEDIA),
            ("video_url", MEDIA),
            ("input_audio", NULL_OR_OBJECT),
        ]],
    ),
]);
const MEDIA: Schema = Schema::Either(&[object(&[], &[&[("url", NULL_OR_STRING)]]), ANY_STRING, Schema::Null]);

/// A tool that a chat may call.
const TOOL: Schema = object(
    &[],
    &[&[
        ("type", ANY_STRING),
        (
            "function",
            object(
                &[("name", ANY_STRING)],
                &[&[("description", NULL_OR_STRING), ("parameters", NULL_OR_OBJECT)]],
            ),
        ),
    ]],
);
const TOOL_CHOICE: Schema =
    Schema::Either(&[Schema::String(&["none", "auto", "required"]), ANY_OBJECT, Schema::Null]);

/// An item of a response or conversation: a message, a call, what a call gave.
const ITEM: Schema = object(
    &[],
    &[&[
        ("type", NULL_OR_STRING),
        ("role", NULL_OR_STRING),
        ("content", Schema::Either(&[ANY_STRING, Schema::List(&Schema::Any, 0), Schema::Null])),
    ]],
);
