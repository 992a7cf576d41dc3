//! When a ticket gives back what its request holds.

use std::time::Duration;

use epp_framework::endpoint::{Cost, Endpoint, EndpointId, EndpointMeta};

use super::*;
use crate::datastore;
use crate::pool;

fn endpoint(slot: u32) -> Arc<Endpoint> {
    let meta = EndpointMeta {
        name: format!("pod-{slot}"),
        namespace: "default".into(),
        address: [10, 0, 0, 1].into(),
        port: 8000,
        labels: [].into(),
    };
    Arc::new(Endpoint::new(EndpointId { slot, generation: 0 }, meta))
}

/// Requests and prompt tokens in flight.
fn held(endpoint: &Endpoint) -> (u32, u64) {
    let in_flight = endpoint.sample(Timestamp::default(), Duration::ZERO).in_flight;
    (in_flight.requests, in_flight.prompt_tokens)
}

/// A request whose prompt another endpoint computes than the one that answers.
struct Split {
    ticket: Ticket,
    prefill: Arc<Endpoint>,
    decode: Arc<Endpoint>,
}

impl Split {
    fn of(parser: Arc<dyn Parser>) -> Self {
        let pool = Arc::new(pool::testing::pool(datastore::store().0, Duration::from_secs(1)));
        let asked = Asked {
            received: pool.clock.now(),
            pipeline: pool.pipeline(),
            parser,
            path: "/v1/completions".into(),
            model: "m".into(),
            target_model: "m".into(),
            placement: None,
        };
        let (prefill, decode) = (endpoint(0), endpoint(1));
        let cost = Cost { requests: 1, prompt_tokens: 7, output_tokens: 0 };
        let reservations = Reservations::from_iter([
            Reservation::new(decode.clone(), cost),
            Reservation::until_first_token(prefill.clone(), cost),
        ]);
        let model = pool.metrics.model("m", "m");
        Self { ticket: Ticket::routed(pool, model, asked, reservations), prefill, decode }
    }

    /// Requests in flight at the prefill worker, and prompt tokens at the other.
    fn held(&self) -> (u32, u64) {
        (held(&self.prefill).0, held(&self.decode).1)
    }
}

fn built_in(name: &str) -> Arc<dyn Parser> {
    let plugin_type = epp_plugins::BUILT_IN.iter().find(|known| known.name == name).unwrap();
    let slots = epp_framework::slot::SlotNames::default();
    let parameters = epp_framework::parameters::Parameters::defaults(plugin_type.parameters);
    let cx = epp_framework::plugin::BuildContext::new(name, &slots);
    (plugin_type.build)(&parameters, &cx).parser.unwrap()
}

#[test]
fn prompts_count_as_computed_with_the_first_token_or_else_with_the_head() {
    const TOKEN: &[u8] = b"data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    let (openai, through) = ("openai-parser", "passthrough-parser");
    for (name, parser, content_type, compressed, head_is_the_sign) in [
        ("events", openai, "text/event-stream", false, false),
        ("lines", openai, "application/x-ndjson", false, false),
        ("no type", openai, "", false, false),
        ("one body, which comes when all is done", openai, "application/json", false, true),
        ("sound", openai, "audio/mpeg", false, true),
        ("compressed", openai, "text/event-stream", true, true),
        ("nobody reads it", through, "text/event-stream", false, true),
    ] {
        let mut split = Split::of(built_in(parser));
        assert_eq!(split.held(), (1, 7), "{name}");
        let head = ResponseHead { content_type: content_type.into(), compressed, ..ResponseHead::default() };
        split.ticket.on_response_headers(&head);
        assert_eq!(split.held(), if head_is_the_sign { (0, 0) } else { (1, 7) }, "{name}");
        if !head_is_the_sign {
            split.ticket.on_response_chunk(
                TOKEN.strip_prefix(b"data: ").filter(|_| name == "lines").unwrap_or(TOKEN),
            );
            assert_eq!(split.held(), (0, 0), "{name}");
        }
        assert_eq!(held(&split.decode).0, 1, "{name}: it still answers");
        split.ticket.complete();
        assert_eq!((held(&split.prefill), held(&split.decode)), ((0, 0), (0, 0)), "{name}");
    }
}

#[test]
fn the_head_is_the_sign_where_no_body_will_be_seen() {
    let mut split = Split::of(built_in("openai-parser"));
    split.ticket.on_response_headers(&ResponseHead {
        content_type: "text/event-stream".into(),
        ..ResponseHead::default()
    });
    assert_eq!(split.held(), (1, 7));
    split.ticket.complete_when_dropped();
    assert_eq!((split.held(), held(&split.decode).0), ((0, 0), 1));
}
