//! Reading endpoints files: what is accepted, and how everything else is told.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<PoolFile, Vec<Problem>> {
    super::parse(text, "default")
}

const TWO: &str = include_str!("../../../tests/it/fixtures/endpoints/two.yaml");
const BROKEN: &str = include_str!("../../../tests/it/fixtures/endpoints/broken.yaml");
const BROKEN_TOLD: &str = include_str!("../../../tests/it/fixtures/endpoints/broken.txt");

fn told(text: &str) -> String {
    let problems = parse(text).expect_err("the text has problems");
    problems.iter().map(|problem| problem.in_file("broken.yaml") + "\n").collect()
}

#[test]
fn endpoints_and_objectives_are_read() {
    let file = parse(TWO).unwrap();
    let endpoint = |name: &str, namespace: &str, address: &str, port, labels: &[(&str, &str)]| EndpointMeta {
        name: name.into(),
        namespace: namespace.into(),
        address: address.parse().unwrap(),
        port,
        labels: labels.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
    };
    let want = [
        endpoint("vllm-0", "serving", "10.0.0.5", 8000, &[("role", "decode"), ("zone", "1")]),
        endpoint("vllm-1", "default", "fd00::7", 8001, &[]),
    ];
    assert_eq!(file.endpoints, want);
    assert_eq!(file.objectives, [("batch".into(), -5), ("interactive".into(), 10)].into());
}

#[test]
fn model_rewrites_are_read() {
    let file = parse(
        "
endpoints: []
modelRewrites:
- name: canary
  rules:
  - matches: [{model: {type: Exact, value: m}, headers: [{name: X-Tier, value: gold}]}]
    targets: [{modelRewrite: gold}]
  - {matches: [{model: m}], targets: [{modelRewrite: v2, weight: 1}, {modelRewrite: v1, weight: 3}]}
- {name: rest, rules: [{targets: [{modelRewrite: other}]}]}
- {name: too-late, rules: [{matches: [{model: m}], targets: [{modelRewrite: never}]}]}
",
    );
    let rewrites = file.unwrap().rewrites;
    let gold = |name: &str| (name == "x-tier").then_some("gold");
    assert_eq!(rewrites.target("m", gold, 0.0), Some("gold"));
    assert_eq!(rewrites.target("m", |_| None, 0.2), Some("v2"));
    assert_eq!(rewrites.target("m", |_| None, 0.3), Some("v1"));
    assert_eq!(rewrites.target("n", |_| None, 0.0), Some("other"));
}

#[test]
fn all_problems_are_told_at_once_with_their_places() {
    assert_eq!(told(BROKEN), BROKEN_TOLD);
}

#[test]
fn addresses_are_ips_with_or_without_brackets() {
    for (given, want) in [
        ("10.0.0.1", Some("10.0.0.1")),
        ("fd00::1", Some("fd00::1")),
        ("'[fd00::1]'", Some("fd00::1")),
        ("[::1]", None),
        ("'[10.0.0.1]'", None),
        ("fe80::1%eth0", None),
        ("10.0.0", None),
        ("10.0.0.256", None),
        ("localhost", None),
        ("'::'", None),
        ("224.0.0.1", None),
        ("''", None),
        ("10", None),
    ] {
        let file = parse(&format!("endpoints: [{{name: a, address: {given}, port: 80}}]"));
        let address = file.ok().map(|file| file.endpoints[0].address.to_string());
        assert_eq!(address.as_deref(), want, "{given}");
    }
}

#[test]
fn names_are_unique_within_a_namespace_and_destinations_everywhere() {
    let (first, port) = ("{name: a, address: 10.0.0.1, port: 80}", "{name: b, address: 10.0.0.1, port: 81}");
    let namespace = "{name: a, namespace: x, address: 10.0.0.2, port: 80}";
    assert_eq!(parse(&format!("endpoints: [{first}, {port}, {namespace}]")).unwrap().endpoints.len(), 3);
    let same = "{name: c, namespace: x, address: 10.0.0.1, port: 80}";
    let problems = parse(&format!("endpoints: [{first}, {same}]")).unwrap_err();
    assert_eq!(problems[0].message, "`10.0.0.1:80` is already listed at line 1");
}

#[test]
fn an_empty_pool_must_be_written_out() {
    assert_eq!(parse("endpoints: []").unwrap(), PoolFile::default());
    assert_eq!(parse("endpoints:\n").unwrap(), PoolFile::default());
    for text in ["", "# nothing\n", "{}", "objectives: []", "[]"] {
        assert_eq!(parse(text).unwrap_err().len(), 1, "{text:?}");
    }
}

#[test]
fn large_pools_are_read_and_larger_ones_refused() {
    let list = |n: usize| {
        let entries = (0..n).map(|i| {
            format!("- {{name: p{i}, address: 10.{}.{}.{}, port: 80}}\n", i >> 16, i >> 8 & 255, i & 255)
        });
        format!("endpoints:\n{}", entries.collect::<String>())
    };
    assert_eq!(parse(&list(MAX_ENTRIES)).unwrap().endpoints.len(), MAX_ENTRIES);
    let problems = parse(&list(MAX_ENTRIES + 1)).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "2:3: error: `endpoints`: expected at most 100000 entries, found 100001"
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        drop(parse(&text));
    }

    #[test]
    fn no_mutation_panics(at in 0..TWO.len() + BROKEN.len(), with in "\\PC|[\n\t:&*\\[{]", cut in 0..40usize) {
        let mut text = format!("{TWO}{BROKEN}");
        text.replace_range(at..(at + cut).min(text.len()), &with);
        drop(parse(&text));
        drop(parse(&text[..at]));
    }
}
