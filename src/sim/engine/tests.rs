//! Engines in virtual time. The reference is the same engine held to one step per flight.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A step takes 1 ms, and 1 µs per prompt token; nothing else costs.
fn small() -> EngineConfig {
    EngineConfig {
        block_size: 16,
        num_gpu_blocks: 101,
        max_num_seqs: 4,
        max_num_batched_tokens: 64,
        max_model_len: 4096,
        max_waiting: 8,
        cost: StepCost {
            base_ns: 1_000_000,
            prefill_ns_per_token: 1000,
            decode_ns_per_seq: 0,
            kv_ns_per_token: 0,
            attention_doubles_at: 0,
        },
    }
}

fn engine(config: EngineConfig) -> Engine {
    Engine::new(config, 1).unwrap()
}

fn ask(prompt: impl IntoIterator<Item = u32>, max_tokens: u32) -> EngineRequest {
    EngineRequest { prompt_tokens: prompt.into_iter().collect(), max_tokens, salt: 0 }
}

fn finish(engine: &mut Engine) -> Vec<EngineEvent> {
    let mut events = Vec::new();
    while let Some(at) = engine.next_event() {
        engine.advance(at, &mut events);
    }
    events
}

fn cached(events: &[EngineEvent]) -> Vec<u32> {
    let admitted = |event: &EngineEvent| match event {
        EngineEvent::Admitted { n_cached, .. } => Some(*n_cached),
        _ => None,
    };
    events.iter().filter_map(admitted).collect()
}

fn first_token_ns(events: &[EngineEvent], wanted: RequestId) -> u64 {
    let first = |event: &EngineEvent| match event {
        EngineEvent::Tokens { id, at, is_first: true, .. } if *id == wanted => Some(at.0),
        _ => None,
    };
    events.iter().find_map(first).unwrap()
}

fn finished_ns(events: &[EngineEvent], wanted: RequestId) -> u64 {
    let end = |event: &EngineEvent| match event {
        EngineEvent::Finished { id, at, .. } if *id == wanted => Some(at.0),
        _ => None,
    };
    events.iter().find_map(end).unwrap()
}

/// Submits one request at the engine's present, runs it to its end and gives what was cached.
fn serve(engine: &mut Engine, asked: &EngineRequest) -> u32 {
    engine.submit(Timestamp(engine.now_ns), asked).unwrap();
    cached(&finish(engine))[0]
}

#[test]
fn only_full_blocks_are_reused_and_one_token_is_always_computed() {
    for (name, n_first, n_second, want) in [
        ("a whole number of blocks leaves the last one out", 64, 64, 48),
        ("one more token reuses all full blocks", 64, 65, 64),
        ("a partial block is not reused", 40, 40, 32),
        ("a longer prompt reuses the shorter one's full blocks", 40, 100, 32),
        ("less than a block is never reused", 15, 15, 0),
        ("exactly one block is never reused alone", 16, 16, 0),
    ] {
        let mut engine = engine(small());
        assert_eq!(serve(&mut engine, &ask(0..n_first, 1)), 0, "{name}");
        assert_eq!(serve(&mut engine, &ask(0..n_second, 1)), want, "{name}");
    }
}

#[test]
fn an_answer_extends_the_chain_for_the_next_turn() {
    let mut engine = engine(small());
    let first = ask(0..20, 29);
    let output = engine.submit(Timestamp(0), &first).unwrap().output;
    finish(&mut engine);
    let history = (0..20).chain((0..29).map(|index| output.token(index)));
    // The last of 49 tokens was sampled but never computed: three full blocks stand.
    assert_eq!(serve(&mut engine, &ask(history.chain(500..520), 1)), 48);
    assert_eq!(engine.gauges().counts.prefix_cache_hits, 48);
    assert_eq!(engine.gauges().counts.prefix_cache_queries, 20 + 69);
}

#[test]
fn salts_separate_caches() {
    let mut engine = engine(small());
    serve(&mut engine, &ask(0..64, 1));
    assert_eq!(serve(&mut engine, &EngineRequest { salt: 9, ..ask(0..64, 1) }), 0);
}

#[test]
fn old_prompts_are_evicted_from_their_tail() {
    let mut engine = engine(EngineConfig { num_gpu_blocks: 9, ..small() });
    serve(&mut engine, &ask(0..65, 1));
    // Four keyed blocks are idle and four keyless ones free; six are needed, so the two at the tail go.
    serve(&mut engine, &ask(1000..1090, 1));
    assert_eq!(serve(&mut engine, &ask(0..65, 1)), 32);
}

#[test]
fn a_long_prefill_shares_the_budget_and_slows_decodes() {
    let mut engine = engine(small());
    let decoding = engine.submit(Timestamp(0), &ask(0..4, 100)).unwrap().id;
    let mut events = Vec::new();
    engine.advance(Timestamp(10_004_000), &mut events);
    assert_eq!(engine.next_step(), Some(Timestamp(11_004_000)));
    let long = engine.submit(Timestamp(10_004_001), &ask(1000..1126, 1)).unwrap().id;
    events.extend(finish(&mut engine));
    // From the next step on: 63 prompt tokens beside one decode, twice.
    let admitted_ns = 11_004_000;
    assert_eq!(first_token_ns(&events, long), admitted_ns + 2 * 1_063_000);
    assert_eq!(finished_ns(&events, decoding), 100 * 1_000_000 + 4000 + 126_000);
}

#[test]
fn the_queue_is_first_come_first_served_under_the_seat_limit() {
    let mut engine = engine(EngineConfig { max_num_seqs: 1, ..small() });
    let ids: Vec<RequestId> =
        (0..3u32).map(|n| engine.submit(Timestamp(0), &ask(n * 100..n * 100 + 5, 3)).unwrap().id).collect();
    let mut events = Vec::new();
    engine.advance(Timestamp(0), &mut events);
    assert_eq!((engine.gauges().running, engine.gauges().waiting), (1, 2));
    events.extend(finish(&mut engine));
    let ends: Vec<u64> = ids.iter().map(|id| finished_ns(&events, *id)).collect();
    assert_eq!(ends, [3_005_000, 6_010_000, 9_015_000]);
}

#[test]
fn requests_of_one_instant_share_their_first_step() {
    let mut engine = engine(small());
    let ids = [0, 100].map(|n| engine.submit(Timestamp(0), &ask(n..n + 10, 1)).unwrap().id);
    let events = finish(&mut engine);
    assert_eq!(ids.map(|id| finished_ns(&events, id)), [1_020_000; 2]);
}

#[test]
fn the_youngest_is_preempted_and_still_gets_its_whole_answer() {
    let mut engine = engine(EngineConfig { num_gpu_blocks: 9, ..small() });
    let old = engine.submit(Timestamp(0), &ask(0..30, 90)).unwrap().id;
    let young = engine.submit(Timestamp(0), &ask(1000..1030, 90)).unwrap().id;
    let events = finish(&mut engine);
    assert!(engine.gauges().counts.preemptions >= 1);
    assert!(finished_ns(&events, old) < finished_ns(&events, young));
    for wanted in [old, young] {
        let tokens = |event: &EngineEvent| match event {
            EngineEvent::Tokens { id, n_tokens, .. } if *id == wanted => *n_tokens,
            _ => 0,
        };
        assert_eq!(events.iter().map(tokens).sum::<u32>(), 90);
    }
    assert_eq!(cached(&events).len(), 2, "coming back is not a second admission");
}

#[test]
fn a_request_without_output_ends_with_its_prompt() {
    let mut engine = engine(small());
    // 150 tokens in steps of 64.
    let pooling = engine.submit(Timestamp(0), &ask(0..150, 0)).unwrap().id;
    let other = engine.submit(Timestamp(0), &ask(1000..1150, 2)).unwrap().id;
    let events = finish(&mut engine);
    assert_eq!(finished_ns(&events, pooling), first_token_ns(&events, pooling));
    assert!(finished_ns(&events, pooling) >= 3_000_000 + 150_000);
    assert!(finished_ns(&events, pooling) < first_token_ns(&events, other));
    let counts = engine.gauges().counts;
    assert_eq!((counts.prompt_tokens, counts.generation_tokens, counts.finished), (300, 2, 2));
    assert_eq!(serve(&mut engine, &ask(0..150, 1)), 144, "its blocks are cached as any other's");
    assert_eq!(engine.gauges().blocks_used, 0);
}

#[test]
fn what_can_never_be_served_is_refused() {
    let config = EngineConfig { num_gpu_blocks: 9, max_waiting: 1, ..small() };
    for (name, asked, want) in [
        ("no prompt", ask([], 1), SubmitError::EmptyPrompt),
        (
            "more than all blocks",
            ask(0..100, 29),
            SubmitError::TooLong { n_prompt: 100, max_tokens: 29, limit: 128 },
        ),
        (
            "a sum beyond 32 bits",
            ask(0..100, u32::MAX),
            SubmitError::TooLong { n_prompt: 100, max_tokens: u32::MAX, limit: 128 },
        ),
    ] {
        assert_eq!(engine(config.clone()).submit(Timestamp(0), &asked), Err(want), "{name}");
    }
    let mut full = engine(config);
    full.submit(Timestamp(0), &ask(0..100, 28)).unwrap();
    assert_eq!(full.submit(Timestamp(0), &ask(0..9, 1)), Err(SubmitError::QueueFull(1)));
    assert_eq!(full.gauges().counts.rejected, 1);
}

#[test]
fn settings_out_of_range_are_named() {
    for (config, want) in [
        (EngineConfig { block_size: 0, ..small() }, ConfigError::Zero("block_size")),
        (EngineConfig { max_num_seqs: 0, ..small() }, ConfigError::Zero("max_num_seqs")),
        (EngineConfig { num_gpu_blocks: 1, ..small() }, ConfigError::Blocks(1)),
        (EngineConfig { num_gpu_blocks: u32::MAX, ..small() }, ConfigError::Blocks(u32::MAX)),
    ] {
        assert_eq!(Engine::new(config, 0).err(), Some(want));
    }
}

#[test]
fn aborts_free_everything_and_are_known_once() {
    let mut engine = engine(EngineConfig { max_num_seqs: 1, ..small() });
    let running = engine.submit(Timestamp(0), &ask(0..40, 1000)).unwrap().id;
    let waiting = engine.submit(Timestamp(0), &ask(0..40, 1000)).unwrap().id;
    let mut events = Vec::new();
    engine.advance(Timestamp(5_500_000), &mut events);
    assert!(engine.gauges().blocks_used > 0);
    for id in [running, waiting] {
        assert!(engine.abort(Timestamp(5_600_000), id));
        assert!(!engine.abort(Timestamp(5_600_000), id));
    }
    engine.advance(Timestamp(7_000_000), &mut events);
    let gauges = engine.gauges();
    assert_eq!((gauges.running, gauges.waiting, gauges.blocks_used, gauges.counts.aborted), (0, 0, 0, 2));
    assert_eq!(engine.next_event(), None);
}

#[test]
fn blocks_without_a_user_do_not_count_as_used() {
    let mut engine = engine(small());
    engine.submit(Timestamp(0), &ask(0..160, 50)).unwrap();
    let mut events = Vec::new();
    engine.advance(Timestamp(10_000_000), &mut events);
    assert_eq!((engine.gauges().blocks_used, engine.gauges().kv_used), (11, 0.11));
    finish(&mut engine);
    assert_eq!(engine.gauges().blocks_used, 0);
}

#[test]
fn a_lone_decode_is_one_event_however_long() {
    let mut engine = engine(small());
    engine.submit(Timestamp(0), &ask(0..10, 1500)).unwrap();
    let events = finish(&mut engine);
    // Admitted, the first token, the other 1499, Finished.
    assert_eq!(events.len(), 4, "{events:?}");
}

#[test]
fn time_that_goes_back_is_taken_as_standing_still() {
    let mut engine = engine(small());
    let mut events = Vec::new();
    engine.advance(Timestamp(9_000_000), &mut events);
    let id = engine.submit(Timestamp(5), &ask(0..10, 1)).unwrap().id;
    let events = finish(&mut engine);
    assert_eq!(finished_ns(&events, id), 9_000_000 + 1_010_000);
}

#[test]
fn presets_are_valid_and_hit_their_anchor() {
    for preset in PRESETS {
        preset.engine().validate().unwrap();
    }
    let mut engine = engine(EngineConfig::default());
    let id = engine.submit(Timestamp(0), &ask(0..512, 2)).unwrap().id;
    let events = finish(&mut engine);
    // 6.5 ms and 512 times 36 µs; then 6.5 ms per token.
    assert_eq!(first_token_ns(&events, id), 6_500_000 + 12_000 + 512 * 36_000);
    assert_eq!(finished_ns(&events, id) - first_token_ns(&events, id), 6_500_000 + 12_000 + 512 * 56);
}

/// Something done to an engine after a pause.
#[derive(Clone, Debug)]
enum Act {
    Submit { topic: u32, n_prompt: u32, max_tokens: u32, salt: u64 },
    Abort { nth: u64 },
    Look,
}

/// What an observer sees of one request, whatever the size of the events.
#[derive(Debug, Default, PartialEq)]
struct Story {
    admitted: Option<(u64, u32)>,
    first_token_ns: Option<u64>,
    n_tokens: u32,
    last_token_ns: u64,
    finished: Option<(u64, u32)>,
}

fn tell(events: &[EngineEvent]) -> BTreeMap<RequestId, Story> {
    let mut stories: BTreeMap<RequestId, Story> = BTreeMap::new();
    for event in events {
        match *event {
            EngineEvent::Admitted { id, at, n_cached } => {
                stories.entry(id).or_default().admitted = Some((at.0, n_cached));
            }
            EngineEvent::Tokens { id, at, n_tokens, is_first } => {
                let story = stories.entry(id).or_default();
                story.n_tokens += n_tokens;
                story.last_token_ns = at.0;
                if is_first {
                    assert_eq!((story.first_token_ns, n_tokens.max(1)), (None, 1));
                    story.first_token_ns = Some(at.0);
                }
            }
            EngineEvent::Finished { id, at, n_output } => {
                stories.entry(id).or_default().finished = Some((at.0, n_output));
            }
        }
    }
    stories
}

/// Plays acts and gives each request's story and the gauges after each act and at the end.
fn play(
    config: &EngineConfig,
    longest_flight: u64,
    acts: &[(u64, Act)],
) -> (BTreeMap<RequestId, Story>, Vec<Gauges>) {
    let mut engine = Engine::new(config.clone(), 3).unwrap();
    engine.longest_flight = longest_flight;
    let (mut now, mut events, mut gauges) = (0, Vec::new(), Vec::new());
    for (pause_us, act) in acts {
        now += pause_us * 1000;
        match act {
            Act::Submit { topic, n_prompt, max_tokens, salt } => {
                let prompt_tokens = (0..*n_prompt).map(|at| if at < 40 { at } else { at * topic }).collect();
                let asked = EngineRequest { prompt_tokens, max_tokens: *max_tokens, salt: *salt };
                let _ = engine.submit(Timestamp(now), &asked);
            }
            Act::Abort { nth } => {
                engine.abort(Timestamp(now), RequestId(*nth));
            }
            Act::Look => engine.advance(Timestamp(now), &mut events),
        }
        gauges.push(engine.gauges());
    }
    events.extend(finish(&mut engine));
    gauges.push(engine.gauges());
    (tell(&events), gauges)
}

fn acts() -> impl Strategy<Value = Vec<(u64, Act)>> {
    let submit = (1..4u32, 1..150u32, prop_oneof![1 => Just(0), 4 => 1..120u32], 0..2u64)
        .prop_map(|(topic, n_prompt, max_tokens, salt)| Act::Submit { topic, n_prompt, max_tokens, salt });
    let act =
        prop_oneof![5 => submit, 1 => (0..20u64).prop_map(|nth| Act::Abort { nth }), 2 => Just(Act::Look)];
    // Whole milliseconds as well, so that acts fall on the very end of a step.
    let pause = prop_oneof![Just(0), (0..30u64).prop_map(|ms| ms * 1000), 0..40_000u64];
    prop::collection::vec((pause, act), 1..30)
}

fn configs() -> impl Strategy<Value = EngineConfig> {
    let cost = (0..3u64, 0..3u64, prop_oneof![Just(0), Just(1000)]).prop_map(|(kv, seq, prefill)| StepCost {
        base_ns: 1_000_000,
        prefill_ns_per_token: prefill,
        decode_ns_per_seq: seq * 1000,
        kv_ns_per_token: kv * 7,
        attention_doubles_at: 100 * seq,
    });
    let block_size = prop_oneof![Just(1u32), Just(2), Just(16)];
    (block_size, 1..6u32, prop_oneof![1..8u32, 30..100u32], 2..40u32, 1..10u32, cost).prop_map(
        |(block_size, max_num_seqs, max_num_batched_tokens, blocks_of_16, max_waiting, cost)| EngineConfig {
            block_size,
            num_gpu_blocks: 1 + blocks_of_16 * 16 / block_size,
            max_num_seqs,
            max_num_batched_tokens,
            max_model_len: 4096,
            max_waiting,
            cost,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_steps_at_once_equal_single_steps(config in configs(), acts in acts()) {
        let (stories, gauges) = play(&config, u64::MAX, &acts);
        let (want_stories, want_gauges) = play(&config, 1, &acts);
        prop_assert_eq!(stories, want_stories);
        prop_assert_eq!(gauges, want_gauges);
    }

    #[test]
    fn everything_ends_and_no_block_stays_used(config in configs(), acts in acts()) {
        let (stories, gauges) = play(&config, u64::MAX, &acts);
        let last = gauges.last().unwrap();
        prop_assert_eq!((last.running, last.waiting, last.blocks_used), (0, 0, 0));
        let tokens: u64 = stories.values().map(|story| u64::from(story.n_tokens)).sum();
        prop_assert_eq!(last.counts.generation_tokens, tokens);
        for story in stories.values() {
            if let Some((_, n_output)) = story.finished {
                prop_assert_eq!(n_output, story.n_tokens);
            }
        }
    }

    #[test]
    fn the_same_acts_give_the_same_events(config in configs(), acts in acts()) {
        prop_assert_eq!(play(&config, u64::MAX, &acts), play(&config, u64::MAX, &acts));
    }
}
