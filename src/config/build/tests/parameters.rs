//! The rows on `parameters`.

use epp_framework::parameters::Parameters;

use super::{HEAD, LLM_D_HEAD, TYPES, told};
use crate::config::build::load;

/// Parameters of one `prefix-cache-scorer` as loaded, or the problems.
fn prefix_parameters(head: &str, parameters: &str) -> (Option<Parameters>, String) {
    let (composition, problems) = load(
        &format!("{head}plugins: [{{type: prefix-cache-scorer, name: p, parameters: {parameters}}}]"),
        TYPES,
    );
    let problems: Vec<_> =
        problems.iter().map(|problem| format!("{}: {}", problem.severity, problem.message)).collect();
    (composition.map(|composition| composition.instances[0].parameters.clone()), problems.join("\n"))
}

#[test]
fn parameters_are_read_as_declared() {
    for (parameters, key, want) in [
        ("null", "hashBlockSize", 64),
        ("{}", "hashBlockSize", 64),
        ("{hashBlockSize: 5, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}", "hashBlockSize", 5),
        ("{hashBlockSize: 16.0}", "hashBlockSize", 16),
        ("{hashBlockSize: null}", "hashBlockSize", 64),
        ("{maxPrefixBlocksToMatch: -9223372036854775808}", "maxPrefixBlocksToMatch", i64::MIN),
    ] {
        let (given, problems) = prefix_parameters(HEAD, parameters);
        assert_eq!((given.unwrap().integer(key), problems.as_str()), (want, ""), "{parameters}");
    }
    let (given, problems) = prefix_parameters(HEAD, "{exact: false}");
    assert_eq!((given.unwrap().boolean("exact"), problems.as_str()), (false, ""));
    let block_size = "plugin `p`: parameter `hashBlockSize`: expected an integer from 1 to 65536, found";
    for (row, parameters, want) in [
        ("G9 E6", "{hashBlockSize: asdf}", format!("{block_size} the string `asdf`")),
        (
            "E6 quoted",
            "{hashBlockSize: '16'}",
            format!("{block_size} the string `16`; write it without quotes"),
        ),
        ("E6 fraction", "{hashBlockSize: 1.5}", format!("{block_size} 1.5")),
        ("E6 range", "{hashBlockSize: 0}", format!("{block_size} 0")),
        ("E6 range", "{hashBlockSize: 1e18}", format!("{block_size} 1e18")),
        ("E6 list", "{hashBlockSize: [1]}", format!("{block_size} a list")),
        (
            "E6",
            "{lruCapacityPerServer: -1}",
            "plugin `p`: parameter `lruCapacityPerServer`: expected an integer of at least 1, found -1"
                .to_owned(),
        ),
        (
            "E6",
            "{maxPrefixBlocksToMatch: 9223372036854775808}",
            "plugin `p`: parameter `maxPrefixBlocksToMatch`: expected an integer, found 9223372036854775808"
                .to_owned(),
        ),
        ("E6", "{exact: 1}", "plugin `p`: parameter `exact`: expected `true` or `false`, found 1".to_owned()),
        ("E6", "[1]", "plugin `p`: `parameters`: expected a map, found a list".to_owned()),
        (
            "E2",
            "{hashBlockSize: 1, hashBlockSize: 1}",
            "duplicate key `hashBlockSize`, first given at line 3".to_owned(),
        ),
        (
            "case",
            "{hashBlockSize: 1, HASHBLOCKSIZE: 1}",
            "plugin `p`: `hashBlockSize` and `HASHBLOCKSIZE` are the same parameter".to_owned(),
        ),
    ] {
        assert_eq!(prefix_parameters(HEAD, parameters), (None, format!("error: {want}")), "{row}");
    }
}

#[test]
fn g42_unknown_parameters_are_ignored_or_refused_by_version() {
    let near = "plugin `p`: unknown parameter `hashBlokSize`, did you mean `hashBlockSize`?";
    let (given, problems) = prefix_parameters(HEAD, "{hashBlokSize: 5}");
    assert_eq!(
        (given.unwrap().integer("hashBlockSize"), problems),
        (64, format!("warning: {near} (ignored)"))
    );
    assert_eq!(prefix_parameters(LLM_D_HEAD, "{hashBlokSize: 5}"), (None, format!("error: {near}")));

    let (given, problems) = prefix_parameters(LLM_D_HEAD, "{HASHBLOCKSIZE: 5}");
    let want = "warning: plugin `p`: `HASHBLOCKSIZE` is read as `hashBlockSize`";
    assert_eq!((given.unwrap().integer("hashBlockSize"), problems.as_str()), (5, want));

    for head in [HEAD, LLM_D_HEAD] {
        let (outline, warnings) =
            told(&format!("{head}plugins: [{{type: queue-scorer, parameters: {{a: 1}}}}]"));
        let want = "plugin `queue-scorer`: unknown parameter `a`, it takes none (ignored)";
        assert_eq!((outline.is_ok(), warnings.as_str()), (true, want));
    }
}
