//! The scanner on legal oddities, broken lines and random bytes, and against `prometheus-parse`.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 4] = ["vllm:a", "vllm:a_total", "vllm:b", "odd_labels"];

/// Name, labels in the page's order, value.
type Read<N = &'static str> = (N, Vec<(String, String)>, f64);

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn read(page: &[u8], names: &[&'static str]) -> (Vec<Read>, u32) {
    let wanted = WantedNames::new(names.iter().map(ToString::to_string).collect());
    let mut samples = scan(page, &wanted);
    let mut found = Vec::new();
    for sample in &mut samples {
        let labels = sample.labels.iter().map(|(name, value)| (name.to_owned(), value.text().into_owned()));
        found.push((names[sample.name], labels.collect(), sample.value));
    }
    (found, samples.skipped())
}

fn labels(pairs: Pairs<'_>) -> Vec<(String, String)> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// `-0` and NaN count as values of their own.
fn same_value(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[test]
fn a_sample_is_read_however_it_is_spaced() {
    let cases: [(&str, &str, Pairs<'_>, f64); 16] = [
        ("plain", "vllm:a 1", &[], 1.0),
        ("no final newline, label", r#"vllm:a{x="1"} 2"#, &[("x", "1")], 2.0),
        ("empty braces", "vllm:a{} 7\n", &[], 7.0),
        ("value right after the brace", "vllm:a{}7\n", &[], 7.0),
        ("spaces", "  vllm:a   {  x = \"1\" ,  y=\"2\" , }    5  \n", &[("x", "1"), ("y", "2")], 5.0),
        ("tabs", "\tvllm:a\t{x=\"t\"}\t8\t\n", &[("x", "t")], 8.0),
        ("trailing comma", "vllm:a{x=\"1\",} 6\n", &[("x", "1")], 6.0),
        ("empty label", "vllm:a{x=\"\"} 9\n", &[("x", "")], 9.0),
        ("CRLF", "vllm:a{x=\"1\"} 3\r\n", &[("x", "1")], 3.0),
        ("timestamp", "vllm:a 3 1790000000123\n", &[], 3.0),
        ("negative timestamp", "vllm:a 4 -5\n", &[], 4.0),
        ("timestamp in seconds", "vllm:a 4 1790000000.125\n", &[], 4.0),
        ("exemplar", "vllm:a 900.0 # {trace_id=\"4b\"} 12.0 1790000000.1\n", &[], 900.0),
        ("timestamp and exemplar", "vllm:a 9 17 # {trace_id=\"4b\"} 12.0\n", &[], 9.0),
        ("TYPE after the sample", "vllm:a 1\n# TYPE vllm:a gauge\n", &[], 1.0),
        ("between comments", "#\n\n# free\nvllm:a 1\n# EOF\n", &[], 1.0),
    ];
    for (name, page, want, value) in cases {
        assert_eq!(read(page.as_bytes(), &NAMES), (vec![("vllm:a", labels(want), value)], 0), "{name}");
    }
}

#[test]
fn timestamps_are_read_where_there_are_any() {
    let wanted = WantedNames::new(vec!["vllm:a".to_owned()]);
    for (line, want) in [
        ("vllm:a 3", None),
        ("vllm:a{x=\"1\"} 3 1790000000123", Some(1_790_000_000_123.0)),
        ("vllm:a 4 -5", Some(-5.0)),
        ("vllm:a 4 1790000000.125 # {trace_id=\"4b\"} 12.0 7", Some(1_790_000_000.125)),
        ("vllm:a 900.0 # {trace_id=\"4b\"} 12.0 1790000000.1", None),
    ] {
        let found: Vec<_> = scan(line.as_bytes(), &wanted).map(|sample| sample.timestamp).collect();
        assert_eq!(found, [want], "{line}");
    }
}

#[test]
fn values_are_read_as_go_and_python_write_them() {
    let cases = [
        ("NaN", f64::NAN),
        ("nan", f64::NAN),
        ("+Inf", f64::INFINITY),
        ("Inf", f64::INFINITY),
        ("-Inf", f64::NEG_INFINITY),
        ("1e400", f64::INFINITY),
        ("1.5e-07", 1.5e-7),
        ("2E+3", 2000.0),
        ("1.790000000000001e+09", 1_790_000_000.000_001),
        (".5", 0.5),
        ("-0", -0.0),
        ("+7", 7.0),
        ("64", 64.0),
    ];
    for (text, want) in cases {
        let (found, skipped) = read(format!("vllm:b {text}\n").as_bytes(), &NAMES);
        assert!(found.len() == 1 && skipped == 0, "{text}: {found:?}");
        assert!(same_value(found[0].2, want), "{text}: {found:?}");
    }
}

#[test]
fn three_escapes_are_undone_and_others_kept() {
    let cases = [
        ("backslash", r#"{x="C:\\tmp\\"}"#, r"C:\tmp\"),
        ("quote", r#"{x="say \"hi\""}"#, r#"say "hi""#),
        ("newline", r#"{x="a\nb"}"#, "a\nb"),
        ("backslash before n", r#"{x="a\\nb"}"#, r"a\nb"),
        ("others", r#"{x="a\tb\é"}"#, r"a\tb\é"),
        (
            "none, but the format's own signs",
            r#"{x="Zürich, {curly} = #1 # } 5"}"#,
            "Zürich, {curly} = #1 # } 5",
        ),
    ];
    for (name, block, want) in cases {
        let (found, skipped) = read(format!("odd_labels{block} 1\n").as_bytes(), &NAMES);
        assert_eq!((found, skipped), (vec![("odd_labels", labels(&[("x", want)]), 1.0)], 0), "{name}");
    }
}

#[test]
fn a_broken_line_is_skipped_and_counted_and_the_page_goes_on() {
    let broken = [
        "vllm:a",
        "vllm:a ",
        "vllm:a{",
        "vllm:a{x",
        "vllm:a{x=",
        "vllm:a{x=1} 1",
        "vllm:a{x=\"1} 1",
        "vllm:a{x=\"1\\\"} 1",
        "vllm:a{x=\"1\"",
        "vllm:a{x=\"1\" y=\"2\"} 1",
        "vllm:a{,} 1",
        "vllm:a{1x=\"1\"} 1",
        "vllm:a{=\"1\"} 1",
        "vllm:a{\"my.label\"=\"1\"} 1",
        "vllm:a{}",
        "vllm:a one",
        "vllm:a 1 two",
        "vllm:a 1 2 3",
        "vllm:a 0x10",
        "vllm:a 1_000",
        "vllm:a\"1\" 1",
        "vllm:a.b 1",
    ];
    for line in broken {
        let page = format!("vllm:b 1\n{line}\nvllm:b 2\n");
        let want = vec![("vllm:b", vec![], 1.0), ("vllm:b", vec![], 2.0)];
        assert_eq!(read(page.as_bytes(), &NAMES), (want, 1), "{line:?}");
    }
    assert_eq!(read(b"vllm:a{x=\"\xff\"} 1\nvllm:b 2\n", &NAMES), (vec![("vllm:b", vec![], 2.0)], 1));
}

#[test]
fn only_whole_names_match() {
    let unwanted = [
        "",
        "\n\n\r\n",
        "vllm:ab 1\n",
        "vllm:a_by_reason{reason=\"capacity\"} 1\n",
        "vllm:a_total_x 1\n",
        "vllm:a:b 1\n",
        "vllm: 1\n",
        "vllm 1\n",
        "xvllm:a 1\n",
        "# vllm:a 1\n",
        "#vllm:a 1\n",
        "{\"vllm:a\",x=\"1\"} 1\n",
        "\"vllm:a\" 1\n",
        "<html>vllm:a 1</html>",
    ];
    for page in unwanted {
        assert_eq!(read(page.as_bytes(), &NAMES), (vec![], 0), "{page:?}");
    }
    assert_eq!(read(b"vllm:a_total 3\n", &NAMES).0, [("vllm:a_total", vec![], 3.0)]);
    assert_eq!(read(b"vllm:a 3\n", &["vllm:a"]).0, [("vllm:a", vec![], 3.0)]);
    assert_eq!(read(b"vllm:a 3\n", &[]).0, []);
}

/// Of every page among the fixtures, with every name on it wanted.
#[test]
fn each_sample_of_each_page_is_read() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures");
    let mut n_pages = 0;
    for folder in ["real_vllm", "model_servers"] {
        for entry in std::fs::read_dir(format!("{fixtures}/{folder}")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "prom") {
                continue;
            }
            let page = std::fs::read_to_string(&path).unwrap();
            let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            let name_of = |line: &str| line.split(['{', ' ', '\t']).next().unwrap_or(line).to_owned();
            let lines: Vec<String> = lines.map(name_of).collect();
            let names: std::collections::BTreeSet<_> = lines.iter().cloned().collect();
            let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
            let (found, skipped) = read(page.as_bytes(), &names);
            let found: Vec<_> = found.into_iter().map(|sample| sample.0).collect();
            assert_eq!(skipped, 0, "{}", path.display());
            assert_eq!(found, lines, "{}", path.display());
            n_pages += 1;
        }
    }
    assert_eq!(n_pages, 19);
}

#[test]
fn the_odd_page_is_read_whole() {
    let page = include_bytes!("../../../tests/it/fixtures/model_servers/odd.prom");
    let names =
        ["odd_help", "odd_values", "odd_ts", "odd_spaces", "odd_tabs", "late_type", "no_final_newline"];
    let (found, skipped) = read(page, &names);
    assert_eq!(skipped, 0);
    let help =
        [("path", "C:\\tmp\\"), ("quote", "say \"hi\""), ("nl", "a\nb"), ("utf", "Zürich, {curly} = #1")];
    assert_eq!(found[0], ("odd_help", labels(&help), 1.0));
    let counts = names.map(|name| found.iter().filter(|sample| sample.0 == name).count());
    assert_eq!(counts, [1, 10, 2, 1, 1, 1, 1]);
    assert_eq!(found.last(), Some(&("no_final_newline", vec![], 1.0)));
}

#[test]
fn the_openmetrics_page_is_read_without_its_exemplars() {
    let page = include_bytes!("../../../tests/it/fixtures/model_servers/openmetrics.prom");
    let names = ["vllm:prompt_tokens_total", "vllm:time_to_first_token_seconds_bucket"];
    let (found, skipped) = read(page, &names);
    let values: Vec<_> = found.iter().map(|sample| sample.2).collect();
    assert_eq!((values, skipped), (vec![900.0, 8.0, 9.0], 0));
}

/// What `prometheus-parse` makes of a page: name, labels in order of name, value.
fn by_the_other_parser(page: &str) -> Vec<Read<String>> {
    let lines = page.lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).expect("lines come from memory");
    let mut samples = Vec::new();
    for sample in scrape.samples {
        let mut labels: Vec<_> = sample.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        labels.sort();
        let (prometheus_parse::Value::Gauge(value)
        | prometheus_parse::Value::Counter(value)
        | prometheus_parse::Value::Untyped(value)) = sample.value
        else {
            panic!("no histograms were generated");
        };
        samples.push((sample.metric, labels, value));
    }
    samples
}

/// Why pages are not read with `prometheus-parse`: it knows no colon in names, and what vLLM exposes vanishes.
#[test]
fn the_other_parser_loses_vllm_series_without_an_error() {
    let page = "# TYPE vllm:b gauge\nvllm:b{engine=\"0\"} 2.0\nother{engine=\"0\"} 3.0\n";
    let names: Vec<_> = by_the_other_parser(page).into_iter().map(|sample| sample.0).collect();
    assert_eq!(names, ["other"]);
    assert_eq!(read(page.as_bytes(), &NAMES).0, [("vllm:b", labels(&[("engine", "0")]), 2.0)]);
}

const GENERATED: [&str; 4] = ["queue_depth", "queue_depth_total", "q", "running"];

fn generated_line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["queue_depth", "queue_depth_total", "q", "running", "other", "que"]);
    let labels = prop::collection::btree_map("[a-z_][a-z0-9_]{0,5}", "[a-zA-Z0-9 ._#/-]{0,8}", 0..4);
    let value = prop_oneof![
        any::<f64>().prop_map(|value| value.to_string()),
        any::<i32>().prop_map(|value| value.to_string()),
        Just("+Inf".to_owned()),
        Just("NaN".to_owned()),
    ];
    let stamp = prop::option::of(0..4_000_000_000_000i64);
    (name, labels, value, stamp).prop_map(|(name, labels, value, stamp)| {
        let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        let stamp = stamp.map(|stamp| format!(" {stamp}")).unwrap_or_default();
        format!("{name}{labels} {value}{stamp}")
    })
}

proptest! {
    #[test]
    fn agrees_with_another_parser_where_that_can_read(lines in prop::collection::vec(generated_line(), 0..20)) {
        let mut page = "# HELP q a queue\n# TYPE q gauge\n".to_owned();
        page.extend(lines.iter().map(|line| format!("{line}\n")));
        let (found, skipped) = read(page.as_bytes(), &GENERATED);
        prop_assert_eq!(skipped, 0);
        let mut want = by_the_other_parser(&page);
        want.retain(|sample| GENERATED.contains(&sample.0.as_str()));
        prop_assert_eq!(found.len(), want.len());
        for ((name, mut labels, value), want) in found.into_iter().zip(want) {
            labels.sort();
            prop_assert_eq!((name, &labels), (want.0.as_str(), &want.1));
            prop_assert!(same_value(value, want.2), "{} is not {}", value, want.2);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(page in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&page, &NAMES);
    }

    #[test]
    fn arbitrary_text_after_a_wanted_name_does_not_panic(tail in "[ \t{}=\",\\\\#a-z0-9é\r\n.]{0,60}") {
        read(format!("vllm:a{tail}").as_bytes(), &NAMES);
        read(format!("vllm:a{{{tail}").as_bytes(), &NAMES);
    }
}
