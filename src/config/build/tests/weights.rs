//! Weights of scorers: what is taken, what is told, and what would make the totals overflow.

use super::{HEAD, told};

fn weighted(weight: &str) -> String {
    format!(
        "{HEAD}plugins: [{{type: queue-scorer, name: q}}]\n\
         schedulingProfiles: [{{name: p, plugins: [{{pluginRef: q, weight: {weight}}}]}}]"
    )
}

#[test]
fn weights_may_be_numbers_of_any_sensible_size() {
    let negative = "weight of `q` is negative, endpoints that score low are preferred";
    for (row, weight, want, warning) in [
        ("G39", "2.5", "q*2.5", ""),
        ("integer", "50", "q*50", ""),
        ("exponent", "1e-1", "q*0.1", ""),
        ("null", "null", "q*1", ""),
        ("zero", "0", "q*0", "weight of `q` is 0, its scores count for nothing"),
        ("negative", "-1", "q*-1", negative),
        ("largest", "1e12", "q*1000000000000", ""),
        ("smallest", "-1e12", "q*-1000000000000", negative),
    ] {
        let (outline, warnings) = told(&weighted(weight));
        assert!(outline.unwrap().contains(&format!("p [] [{want}] max-score-picker")), "{row}");
        assert_eq!(warnings, warning, "{row}");
    }
}

#[test]
fn weights_that_make_totals_overflow_are_refused() {
    for (weight, shown) in
        [("1e308", "1e308"), ("-1.5e12", "-1.5e12"), ("1000000000001", "1.000000000001e12")]
    {
        let want = format!("weight of `q`: expected a number from -1e12 to 1e12, found {shown}");
        assert_eq!(told(&weighted(weight)).0, Err(want), "{weight}");
    }
}

#[test]
fn a_scorer_that_is_listed_twice_is_told() {
    for (plugins, n_told) in
        [("{pluginRef: q}", 0), ("{pluginRef: q}, {pluginRef: q}", 1), ("{pluginRef: q}, {pluginRef: r}", 0)]
    {
        let (outline, warnings) = told(&format!(
            "{HEAD}plugins: [{{type: queue-scorer, name: q}}, {{type: queue-scorer, name: r}}]\n\
             schedulingProfiles: [{{name: p, plugins: [{plugins}]}}, {{name: other, plugins: [{{pluginRef: r}}]}}]"
        ));
        let want = "scorer `q` is listed again in profile `p`, its scores count once more";
        assert_eq!(warnings.matches(want).count(), n_told, "{outline:?} {warnings}");
    }
}
