//! Body modes one by one: what the decision gets to see, when it is asked for, and what is answered before.

use super::*;

const ALL: [BodySendMode; 5] = [
    BodySendMode::FullDuplexStreamed,
    BodySendMode::Buffered,
    BodySendMode::BufferedPartial,
    BodySendMode::Streamed,
    BodySendMode::None,
];

/// What a decision was asked with: the body, and whether there is more of it.
type Seen<'a> = (Option<&'a [u8]>, bool);

/// Sends messages until a decision is asked for; returns the answers before it, and the request.
fn until_decided(exchange: &mut Exchange, messages: Vec<ProcessingRequest>) -> (usize, RawRequest) {
    let n = messages.len();
    let mut answered = 0;
    for (at, message) in messages.into_iter().enumerate() {
        match exchange.on_message(message).expect("a legal message") {
            Step::Decide(undecided) => {
                let raw = undecided.finish();
                assert_eq!(at + 1, n, "decided too early");
                return (answered, raw);
            }
            Step::Reply(replies) => answered += replies.count(),
            Step::Wait => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("nothing was decided")
}

#[test]
fn each_mode_shows_the_decision_what_it_can() {
    use BodySendMode::{Buffered, BufferedPartial, FullDuplexStreamed, None as Nothing, Streamed};
    let trailers = || message(Request::RequestTrailers(HttpTrailers::default()));
    let one = |end| vec![request_body(b"ab", end)];
    let long = vec![7; AHEAD_BYTES + 1];
    let headers_only: Seen<'_> = (None, true);
    let whole: Seen<'_> = (Some(&b"ab"[..]), false);
    for (mode, ahead, rest, answered, seen) in [
        (FullDuplexStreamed, false, one(true), 0, whole),
        (FullDuplexStreamed, false, vec![request_body(b"ab", false), trailers()], 0, whole),
        (FullDuplexStreamed, false, vec![trailers()], 0, (None, false)),
        (Buffered, false, one(true), 1, whole),
        (Buffered, false, one(false), 1, whole),
        (Buffered, false, vec![trailers()], 1, (Some(&b""[..]), false)),
        (BufferedPartial, false, one(true), 1, whole),
        (BufferedPartial, false, one(false), 1, (Some(&b"ab"[..]), true)),
        (BufferedPartial, false, vec![trailers()], 1, (Some(&b""[..]), false)),
        (Streamed, false, vec![], 0, headers_only),
        (Streamed, true, vec![request_body(b"a", false), request_body(b"b", true)], 0, whole),
        (Streamed, true, vec![request_body(b"ab", false), trailers()], 0, whole),
        (Streamed, true, vec![trailers()], 0, (None, false)),
        (Streamed, true, vec![request_body(&long, false)], 0, (Some(&long[..]), true)),
        (Nothing, false, vec![], 0, headers_only),
        (Nothing, true, vec![], 0, headers_only),
    ] {
        let mut first = request_headers((mode, mode), false);
        first = if ahead { sent_ahead(first) } else { first };
        let case = format!("{mode:?}, ahead {ahead}, then {} messages", rest.len());
        let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
        let (n_answers, raw) = until_decided(&mut exchange, [vec![first], rest].concat());
        assert_eq!(n_answers, answered, "{case}");
        assert!((raw.body.as_deref(), raw.more) == seen, "{case}: more {}", raw.more);
    }
    for mode in ALL {
        let (answered, raw) = until_decided(
            &mut Exchange::new(LIMIT, DestinationHint::default()),
            vec![request_headers((mode, mode), true)],
        );
        assert_eq!((answered, raw.body, raw.more), (0, None, false), "{mode:?}: a request without a body");
    }
}

#[test]
fn a_pick_waits_for_streamed_chunks_only_as_long_as_it_may() {
    let modes = (BodySendMode::Streamed, BodySendMode::Streamed);
    for chunks in [0, 3] {
        let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
        assert!(feed(&mut exchange, sent_ahead(request_headers(modes, false)), true).is_empty());
        for _ in 0..chunks {
            assert!(feed(&mut exchange, request_body(b"abc", false), true).is_empty());
        }
        assert_eq!(exchange.awaits(), Awaits::UploadBriefly);
        let Step::Decide(undecided) = exchange.out_of_patience() else { panic!("it decides") };
        let raw = undecided.finish();
        assert!(raw.more && raw.body.is_some() == (chunks > 0));
        let body = raw.body.map(|body| OutgoingBody::spliced(&body, 0..1, Bytes::from_static(b"new")));
        let pick = Pick { destination: Some(PICKED.into()), ..Pick::default() };
        let answers: Vec<_> = exchange.decided(Verdict { pick, body, body_changed: true }).collect();
        assert_eq!(answers.len(), 1 + chunks, "headers, and each chunk");
        let mutation = |answer: &ProcessingResponse| match &answer.response {
            Some(Response::RequestBody(BodyResponse { response: Some(common) })) => {
                common.body_mutation.clone().and_then(|mutation| mutation.mutation)
            }
            other => panic!("{other:?}"),
        };
        let mutations: Vec<_> = answers[1..].iter().filter_map(mutation).collect();
        let clear = Mutation::ClearBody(true);
        let want = [Mutation::Body(b"newbcabcabc".to_vec()), clear.clone(), clear];
        assert_eq!(mutations, want[..chunks]);
        assert_eq!(exchange.awaits(), Awaits::Gateway);
        let late = feed(&mut exchange, request_body(b"d", true), true);
        assert_eq!(late.iter().filter_map(mutation).count(), 0, "what comes later passes as it is");
    }
}

#[test]
fn only_an_upload_that_is_seen_can_stall() {
    for (mode, want) in [
        (BodySendMode::FullDuplexStreamed, Awaits::Upload),
        (BodySendMode::Buffered, Awaits::Gateway),
        (BodySendMode::BufferedPartial, Awaits::Gateway),
        (BodySendMode::Streamed, Awaits::Gateway),
        (BodySendMode::None, Awaits::Gateway),
    ] {
        let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
        assert_eq!(exchange.awaits(), Awaits::Gateway);
        feed(&mut exchange, request_headers((mode, mode), false), false);
        assert_eq!(exchange.awaits(), want, "{mode:?}");
    }
}

/// A chunk outside of duplex mode wants one answer, whatever the first message said of the modes.
#[test]
fn bodies_that_no_mode_promised_are_answered() {
    for mode in ALL {
        if mode == BodySendMode::FullDuplexStreamed {
            continue;
        }
        let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
        let mut seen = super::Seen::default();
        for message in
            [request_headers((mode, mode), false), request_body(b"a", false), request_body(b"b", true)]
        {
            seen.request.sent.push_back(b"x".to_vec());
            seen.take(feed(&mut exchange, message, false), (mode, mode));
        }
        assert_eq!((seen.request.headers_answered, seen.request.body_answers), (1, 2), "{mode:?}");
        assert_eq!(seen.destinations, [PICKED], "{mode:?}");
        for message in [response_headers(false), response_body(b"a", false), response_body(b"b", true)] {
            seen.response.sent.push_back(b"x".to_vec());
            seen.take(feed(&mut exchange, message, false), (mode, mode));
        }
        assert_eq!((seen.response.headers_answered, seen.response.body_answers), (1, 2), "{mode:?}");
        assert!(exchange.response_ended(), "{mode:?}");
    }
}

#[test]
fn a_body_without_headers_cannot_be_picked_for_in_any_mode() {
    for mode in
        [BodySendMode::Streamed, BodySendMode::None, BodySendMode::Buffered, BodySendMode::FullDuplexStreamed]
    {
        let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
        let first = ProcessingRequest {
            protocol_config: request_headers((mode, mode), false).protocol_config,
            ..request_body(b"a", true)
        };
        match exchange.on_message(first).unwrap() {
            // The director refuses it too, once it has found nothing else to refuse.
            Step::Decide(undecided) => assert!(undecided.request.headless, "{mode:?}"),
            Step::Reject(rejection) => assert!(matches!(rejection, Rejection::HeadersUnseen), "{mode:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_answer_ends_where_its_mode_lets_it_be_known() {
    let trailers = || message(Request::ResponseTrailers(HttpTrailers::default()));
    let body = |end| response_body(b"a", end);
    for (mode, messages, ended, unseen) in [
        (BodySendMode::FullDuplexStreamed, vec![response_headers(true)], true, false),
        (BodySendMode::FullDuplexStreamed, vec![response_headers(false)], false, false),
        (BodySendMode::FullDuplexStreamed, vec![response_headers(false), body(true)], true, false),
        (BodySendMode::FullDuplexStreamed, vec![response_headers(false), body(false)], false, false),
        (
            BodySendMode::FullDuplexStreamed,
            vec![response_headers(false), body(false), trailers()],
            true,
            false,
        ),
        (BodySendMode::Streamed, vec![response_headers(false), body(false)], false, false),
        (BodySendMode::Streamed, vec![response_headers(false), body(true)], true, false),
        (BodySendMode::Buffered, vec![response_headers(false)], false, false),
        (BodySendMode::Buffered, vec![response_headers(false), body(false)], true, false),
        (BodySendMode::Buffered, vec![response_headers(false), body(false), trailers()], true, false),
        (BodySendMode::BufferedPartial, vec![response_headers(false)], false, false),
        (BodySendMode::BufferedPartial, vec![response_headers(false), body(true)], true, false),
        (BodySendMode::BufferedPartial, vec![response_headers(false), body(false)], false, true),
        (BodySendMode::None, vec![response_headers(false)], false, true),
        (BodySendMode::None, vec![response_headers(true)], true, false),
        (BodySendMode::None, vec![response_headers(false), trailers()], true, false),
    ] {
        let case = format!("{mode:?}, {} messages", messages.len());
        let mut exchange = Exchange::new(LIMIT, DestinationHint::default());
        feed(&mut exchange, request_headers((BodySendMode::None, mode), false), false);
        for message in messages {
            assert_eq!(feed(&mut exchange, message, false).len(), 1, "{case}");
        }
        assert_eq!((exchange.response_ended(), exchange.response_goes_unseen()), (ended, unseen), "{case}");
    }
}

/// Envoy sends no body message for a request of headers and trailers; where it hides trailers as well, the headers go on
/// with the first answer.
#[test]
fn headers_that_go_on_before_the_pick_carry_no_destination_of_the_clients() {
    const CONTROL: &str = "x-gateway-destination-endpoint-v2";
    let sent = [
        (":path", "/v1/completions"),
        (DESTINATION, "10.6.6.6:80"),
        ("X-Gateway-Destination-Endpoint-Subset", "10.6.6.6"),
        (CONTROL, "10.6.6.6:80"),
        ("x-mine", "10.6.6.6:80"),
        ("x-prefiller-host-port", "10.6.6.6:80"),
        ("x-other", "stays"),
    ];
    let always = [DESTINATION, "x-gateway-destination-endpoint-subset", CONTROL, "x-prefiller-host-port"];
    for (mode, key, more) in [
        (BodySendMode::Buffered, DESTINATION, &[][..]),
        (BodySendMode::BufferedPartial, "x-mine", &["x-mine"]),
        // It is a control header as well, and named once all the same.
        (BodySendMode::Buffered, CONTROL, &[]),
    ] {
        let mut exchange = Exchange::new(LIMIT, DestinationHint::new(key, "").unwrap());
        let headers = Request::RequestHeaders(http_headers(&sent, false));
        let protocol_config = request_headers((mode, mode), false).protocol_config;
        let answers = feed(&mut exchange, ProcessingRequest { protocol_config, ..message(headers) }, false);
        let [ProcessingResponse { response: Some(Response::RequestHeaders(answer)), .. }] = &answers[..]
        else {
            panic!("{answers:?}")
        };
        let edits = answer.response.as_ref().unwrap().header_mutation.as_ref().unwrap();
        assert!(edits.set_headers.is_empty());
        let mut want = [&always, more].concat();
        want.sort_unstable();
        assert_eq!(edits.remove_headers, want, "{key}");
    }
}
