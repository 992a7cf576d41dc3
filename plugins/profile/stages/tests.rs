//! Rows of the plugin specification, 2.4 and 5.4, and what is asked of whom in which order.

use epp_framework::endpoint::Load;
use epp_framework::plugin::Plugin;

use super::*;
use crate::profile::{disagg, pd};
use crate::testing::{Pool, built_with};

/// Says what it was told to, and only of the endpoint that it expects.
struct Says(bool, Option<u32>);

impl Decider for Says {
    fn decide(&self, _cycle: &Cycle<'_>, endpoint: Option<u32>) -> bool {
        assert_eq!(endpoint, self.1, "the endpoint that was picked to generate");
        self.0
    }
}

fn says(yes: bool, endpoint: Option<u32>) -> Plugin {
    Plugin { decider: Some(Arc::new(Says(yes, endpoint))), ..Plugin::default() }
}

const DECODE_FIRST: &str = r#"{"deciders": {"prefill": "p", "encode": "e"}}"#;
const PREFILL_FIRST: &str = r#"{"stageOrder": "prefill-first", "deciders": {"encode": "e"}}"#;

/// Profiles and what each would pick: `decode:0 prefill:1,2 encode:`.
fn would(text: &str) -> Vec<(String, Picks)> {
    let profile = |part: &str| {
        let (name, picks) = part.split_once(':').unwrap();
        (name.to_owned(), picks.split(',').filter_map(|index| index.parse().ok()).collect())
    };
    text.split(' ').map(profile).collect()
}

/// Runs profiles for as long as the handler asks for some; returns who ran (`prefill@0` with the first endpoint as its
/// peer), and the decision.
fn play(
    handler: &dyn ProfileHandler,
    would: &[(String, Picks)],
) -> (String, Result<Decision, Unschedulable>) {
    let mut pool = Pool::new([Load::default(); 4]);
    pool.profiles = would.iter().map(|(name, _)| name.clone()).collect();
    let mut ran = Vec::new();
    loop {
        let next = handler.next(&pool.cycle());
        if next.is_empty() {
            break;
        }
        for profile in next {
            let peer = handler.peer(&pool.cycle(), profile);
            let peer = peer.map_or(String::new(), |index| format!("@{index}"));
            ran.push(format!("{}{peer}", pool.profiles[profile]));
            let picks = Some(would[profile].1.clone()).filter(|picks| !picks.is_empty());
            pool.runs.push(ProfileRun { profile, picks });
        }
    }
    (ran.join(" "), handler.decide(&pool.cycle()))
}

/// The headers that are set, and the parts that nobody does; or the error.
fn told(decision: Result<Decision, Unschedulable>) -> String {
    let Decision { headers, unfilled, .. } = match decision {
        Ok(decision) => decision,
        Err(error) => return error.to_string(),
    };
    let headers = headers.iter().map(|(name, value)| format!("{name}: {value}"));
    headers.chain(unfilled.iter().map(|role| format!("no {}", role.name()))).collect::<Vec<_>>().join("; ")
}

const PREFILLED: &str = "x-prefiller-host-port: 10.0.0.2:8000";
const ENCODED: &str = "x-encoder-hosts-ports: 10.0.0.3:8000,10.0.0.4:8000";
const NO_DECODER: &str = "failed to find available decode workers";

#[test]
fn the_decode_worker_is_picked_first_and_others_work_for_it() {
    let all = "prefill:1,2 decode:0 encode:2,3";
    let both = &format!("{PREFILLED}; {ENCODED}");
    let no_encoder = &format!("{PREFILLED}; no encode");
    for (name, (encode, prefill), picks, ran, want) in [
        ("neither is wanted", (false, false), all, "decode", ""),
        ("D16", (false, true), all, "decode prefill@0", PREFILLED),
        ("D18", (true, false), all, "decode encode", ENCODED),
        ("both", (true, true), all, "decode encode prefill@0", both),
        ("D13", (true, true), "decode: prefill:1", "decode", NO_DECODER),
        ("D14", (false, true), "decode:0 prefill:", "decode prefill@0", "no prefill"),
        ("no encoder", (true, true), "decode:0 prefill:1 encode:", "decode encode prefill@0", no_encoder),
        ("no such profiles", (true, true), "other:1 decode:0", "decode", ""),
        ("no decode profile", (true, true), "prefill:1", "", "failed to run any scheduler profile"),
    ] {
        let deciders = [("e", says(encode, Some(0))), ("p", says(prefill, Some(0)))];
        let handler = built_with(&disagg::TYPE, DECODE_FIRST, &deciders).profile_handler.unwrap();
        let (who, decision) = play(&*handler, &would(picks));
        assert_eq!((who.as_str(), told(decision).as_str()), (ran, want), "{name}");
        assert!(handler.splits(), "{name}");
    }
}

#[test]
fn the_prefill_worker_is_picked_first_where_the_order_says_so() {
    let all = "prefill:1,2 decode:0 encode:2,3";
    let both = &format!("{PREFILLED}; {ENCODED}");
    for (name, encode, picks, ran, want) in [
        ("prefill", false, all, "prefill decode@1", PREFILLED),
        ("encode as well", true, all, "prefill encode decode@1", both),
        ("no prefill worker", false, "prefill: decode:0", "prefill decode", "no prefill"),
        ("no such profile", false, "decode:0", "decode", ""),
        ("no decode worker", false, "prefill:1 decode:", "prefill decode@1", NO_DECODER),
    ] {
        let deciders = [("e", says(encode, None))];
        let handler = built_with(&disagg::TYPE, PREFILL_FIRST, &deciders).profile_handler.unwrap();
        let (who, decision) = play(&*handler, &would(picks));
        assert_eq!((who.as_str(), told(decision).as_str()), (ran, want), "{name}");
    }
}

/// Of pods with the role `both` one profile may pick whom another did. Section 2.4 of the plugin specification.
#[test]
fn nobody_works_for_itself() {
    let encoder = "x-encoder-hosts-ports: 10.0.0.4:8000";
    for (name, parameters, picks, want) in [
        ("prefill", DECODE_FIRST, "decode:0 prefill:0", ""),
        ("the next one", DECODE_FIRST, "decode:0 prefill:0,1", PREFILLED),
        ("encode", DECODE_FIRST, "decode:0 encode:0", ""),
        ("others encode", DECODE_FIRST, "decode:0 encode:0,3", encoder),
        ("a fallback may", DECODE_FIRST, "decode:0,1 prefill:1", PREFILLED),
        ("prefill picked first", PREFILL_FIRST, "decode:1 prefill:1", ""),
        ("and has another", PREFILL_FIRST, "decode:0 prefill:0,1", PREFILLED),
    ] {
        let endpoint = (parameters == DECODE_FIRST).then_some(0);
        let deciders = [("e", says(true, endpoint)), ("p", says(true, endpoint))];
        let handler = built_with(&disagg::TYPE, parameters, &deciders).profile_handler.unwrap();
        let decision = play(&*handler, &would(picks)).1;
        assert_eq!(told(decision.clone()), want, "{name}");
        assert_eq!(decision.unwrap().companions.len(), usize::from(!want.is_empty()), "{name}");
    }
}

#[test]
fn a_stage_without_a_decider_never_runs() {
    for (parameters, picks, ran) in [
        ("{}", "decode:0 prefill:1", "decode"),
        (r#"{"deciders": {"prefill": "yes"}}"#, "decode:0 prefill:1", "decode prefill@0"),
        (r#"{"prefillDeciderPluginName": "yes"}"#, "decode:0 prefill:1", "decode prefill@0"),
        (r#"{"profiles": {"prefill": "x"}, "deciders": {"prefill": "yes"}}"#, "decode:0 prefill:1", "decode"),
        (r#"{"prefillProfile": "x", "prefillDeciderPluginName": "yes"}"#, "decode:0 x:1", "decode x@0"),
        (r#"{"decodeProfile": "d", "encodeDeciderPluginName": "yes"}"#, "d:0 encode:1", "d encode"),
    ] {
        let handler = built_with(&disagg::TYPE, parameters, &[("yes", says(true, Some(0)))]).profile_handler;
        assert_eq!(play(&*handler.unwrap(), &would(picks)).0, ran, "{parameters}");
    }
}

#[test]
fn the_older_handler_has_a_port_for_all_ranks() {
    let would = would("d:0 p:1");
    let prefiller = ("x-prefiller-host-port", "10.0.0.2:8000".to_owned());
    for (port, yes, headers) in [
        (0, true, vec![prefiller.clone()]),
        (9000, true, vec![prefiller, ("x-data-parallel-host-port", "10.0.0.1:8000".to_owned())]),
        (9000, false, vec![("x-data-parallel-host-port", "10.0.0.1:8000".to_owned())]),
    ] {
        let parameters = format!(
            r#"{{"decodeProfile": "d", "prefillProfile": "p", "deciderPluginName": "says", "primaryPort": {port}}}"#
        );
        let handler = built_with(&pd::TYPE, &parameters, &[("says", says(yes, Some(0)))]).profile_handler;
        let decision = play(&*handler.unwrap(), &would).1.unwrap();
        assert_eq!(decision.headers.to_vec(), headers, "{port}");
        assert_eq!(decision.port, (port != 0).then_some(port), "{port}");
    }
}
