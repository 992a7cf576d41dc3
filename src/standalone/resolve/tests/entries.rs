//! What entries change, how long they may take, and what limits their rates.

use std::time::Duration;

use super::{GATEWAY, checked, route, service};
use crate::standalone::Checked;
use crate::standalone::topology::{Answer, Entry, PathEdit, RateCost, RateHeader, RateUnit};

fn with(rule: &str) -> Checked {
    let text =
        route("r", "", "", "P:/foo->a").replace("    backendRefs", &format!("    {rule}\n    backendRefs"));
    checked(GATEWAY.replace("HOST", "") + &text + &service("a"))
}

fn first(checked: &Checked) -> &Entry {
    &checked.topology.gateways[0].listeners[0].hosts[0].entries[0]
}

/// Rows 90, 95, 96 and 97 as far as they are resolved.
#[test]
fn filters_become_edits() {
    let checked = with(
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: '1'}], add: [{name: b, \
         value: '2'}], remove: [c]}}, {type: URLRewrite, urlRewrite: {hostname: up.com, path: {type: ReplacePrefixMatch, \
         replacePrefixMatch: /v1}}}, {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: server, value: \
         x}]}}]",
    );
    let edits = &first(&checked).edits;
    assert_eq!(edits.request.set, [("a".to_owned(), "1".to_owned())]);
    assert_eq!(edits.request.add, [("b".to_owned(), "2".to_owned())]);
    assert_eq!(edits.request.remove, ["c"]);
    assert_eq!(edits.response.set[0].0, "server");
    assert_eq!(edits.host.as_deref(), Some("up.com"));
    assert_eq!(edits.path, Some(PathEdit::Prefix("/v1".to_owned())));
    let checked = with(
        "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /x}}}]",
    );
    assert_eq!(first(&checked).edits.path, Some(PathEdit::Full("/x".to_owned())));
    let checked = with("filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [Host]}}]");
    assert!(matches!(first(&checked).answer, Answer::Status(500, _)));
}

#[test]
fn redirects_have_all_their_fields() {
    let text = route("r", "", "", "P:/foo->a").replace(
        "backendRefs: [{name: a, port: 80}]",
        "filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: n.com, port: 8443, statusCode: 301, \
         path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}]",
    );
    let checked = checked(GATEWAY.replace("HOST", "") + &text);
    let Answer::Redirect(found) = &first(&checked).answer else { panic!("{:?}", checked.findings) };
    assert_eq!((found.status, found.scheme, found.port), (301, Some("https"), Some(8443)));
    assert_eq!(found.hostname.as_deref(), Some("n.com"));
    assert_eq!(found.path, Some(PathEdit::Prefix(String::new())));
}

#[test]
fn a_backends_own_filters_change_its_share_or_refuse_it() {
    let own = |filter: &str| {
        let text =
            route("r", "", "", "P:/->a").replace("port: 80}", &format!("port: 80, filters: [{filter}]}}"));
        checked(GATEWAY.replace("HOST", "") + &text + &service("a"))
    };
    let checked = own("{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: '1'}]}}");
    let Answer::Forward(shares) = &first(&checked).answer else { panic!("{:?}", checked.findings) };
    assert_eq!(shares[0].edits.request.set[0].0, "a");
    let checked = own("{type: ExtensionRef, extensionRef: {group: g, kind: K, name: n}}");
    assert!(matches!(first(&checked).answer, Answer::Status(500, _)), "{:?}", checked.findings);
}

/// The table of timeouts and retries.
#[test]
fn rules_have_timeouts_and_retries() {
    let seconds = |n| Some(Duration::from_secs(n));
    for (rule, request, backend, attempts) in [
        ("name: x", None, None, None),
        ("timeouts: {request: 5s}", seconds(5), None, None),
        ("timeouts: {request: 0s}", seconds(0), None, None),
        ("timeouts: {request: 5s, backendRequest: 2s}", seconds(2), seconds(2), None),
        ("timeouts: {request: 5s, backendRequest: 2s}\n    retry: {}", seconds(5), seconds(2), Some(2)),
        ("retry: {attempts: 4, codes: [500, 502], backoff: 100ms}", None, None, Some(4)),
    ] {
        let checked = with(rule);
        let limits = &first(&checked).limits;
        assert_eq!((limits.request, limits.backend_request), (request, backend), "{rule}");
        assert_eq!(limits.retry.as_ref().map(|retry| retry.attempts), attempts, "{rule}");
    }
    let checked = with("retry: {codes: [500, 502], backoff: 100ms}");
    let retry = first(&checked).limits.retry.clone().unwrap();
    assert_eq!(retry.statuses, [500, 502]);
    assert_eq!(retry.backoff, Some((Duration::from_millis(100), Duration::from_secs(1))));
    assert_eq!(
        with("retry: {}").topology.gateways[0].listeners[0].hosts[0].entries[0]
            .limits
            .retry
            .as_ref()
            .unwrap()
            .statuses,
        [503]
    );
}

fn policy(name: &str, target: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: {name}}}\nspec: \
         {{targetRefs: [{{group: gateway.networking.k8s.io, {target}}}], {spec}}}\n"
    )
}

#[test]
fn the_closest_policy_counts() {
    let rate = |n: u32| {
        format!("rateLimit: {{type: Global, global: {{rules: [{{limit: {{requests: {n}, unit: Hour}}}}]}}}}")
    };
    let named = route("r", "", "", "P:/->a").replace("    backendRefs", "    name: one\n    backendRefs");
    let base = GATEWAY.replace("HOST", "") + &named + &service("a");
    let gateway = policy("a", "kind: Gateway, name: g", &rate(1));
    let listener = policy("b", "kind: Gateway, name: g, sectionName: http", &rate(2));
    let of_route = policy(
        "c",
        "kind: HTTPRoute, name: r",
        "retry: {numRetries: 7}, timeout: {http: {requestTimeout: 9s}}",
    );
    let of_rule = policy("d", "kind: HTTPRoute, name: r, sectionName: one", &rate(4));
    for (policies, want) in [
        (gateway.clone(), Some(1)),
        (gateway.clone() + &listener, Some(2)),
        (gateway.clone() + &of_route, None),
        (gateway.clone() + &listener + &of_route + &of_rule, Some(4)),
    ] {
        let checked = checked(base.clone() + &policies);
        assert_eq!(first(&checked).rates.first().map(|rate| rate.requests), want, "{policies}");
    }
    let checked = checked(base + &gateway + &of_route);
    let limits = &first(&checked).limits;
    assert_eq!(limits.retry.as_ref().map(|retry| retry.attempts), Some(7));
    assert_eq!(limits.request, Some(Duration::from_secs(9)));
}

#[test]
fn rules_of_rates_are_read_whole() {
    let rates = "rateLimit: {global: {rules: [{clientSelectors: [{headers: [{type: Distinct, name: X-Tenant}, {name: t, \
                 value: v, invert: true}]}], limit: {requests: 10, unit: Minute}, cost: {request: {from: Number, number: 0}, \
                 response: {from: Metadata, metadata: {namespace: io.envoy.ai_gateway, key: k}}}, shared: true, shadowMode: \
                 true}, {limit: {requests: 3, unit: Month}}, {clientSelectors: [{sourceCIDR: {value: 10.0.0.0/8}}], limit: \
                 {requests: 3, unit: Day}}]}}";
    let text = GATEWAY.replace("HOST", "") + &route("r", "", "", "P:/->a") + &service("a");
    let checked = checked(text + &policy("x", "kind: Gateway, name: g", rates));
    let [first, second] = first(&checked).rates.as_slice() else { panic!("{:?}", checked.findings) };
    assert_eq!((first.policy.as_str(), first.index, first.requests), ("default/x", 0, 10));
    assert_eq!(
        (first.unit, first.is_shared, first.is_shadow, first.is_local),
        (RateUnit::Minute, true, true, false)
    );
    assert_eq!(first.clients[0], RateHeader::Distinct("x-tenant".to_owned()));
    assert!(matches!(&first.clients[1], RateHeader::Is(value, true) if value.to_string() == "t=v"));
    assert_eq!(first.request_cost, RateCost::Number(0));
    assert_eq!(
        first.response_cost,
        Some(RateCost::Metadata("io.envoy.ai_gateway".to_owned(), "k".to_owned()))
    );
    assert_eq!((second.index, &second.request_cost, second.unit), (1, &RateCost::Number(1), RateUnit::Month));
}

fn ai(name: &str, hosts: &str, model: &str) -> String {
    format!(
        "---\napiVersion: aigateway.envoyproxy.io/v1alpha1\nkind: AIGatewayRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{name: g}}]\n  hostnames: [{hosts}]\n  rules: [{{modelsOwnedBy: me, modelsCreatedAt: \
         '1970-01-02T00:00:00Z', matches: [{{headers: [{{name: x-ai-eg-model, value: {model}}}]}}, {{headers: [{{type: \
         RegularExpression, name: x-ai-eg-model, value: 'x.*'}}]}}]}}]\n"
    )
}

/// Rows A11, A22 and A32, and what stands before the list.
#[test]
fn a11_a22_a32_each_host_tells_its_models() {
    let text = GATEWAY.replace("HOST", "")
        + &ai("a", "", "plain")
        + &ai("b", "a.com", "scoped")
        + &ai("c", "'*.b.com'", "wild")
        + &ai("d", "x.b.com", "precise")
        + &route("e", "", "", "P:/v1/models/x->s")
        + &service("s");
    let checked = checked(text);
    let told: Vec<_> = checked.topology.gateways[0].listeners[0]
        .hosts
        .iter()
        .map(|host| {
            let lists = host.entries.iter().filter_map(|entry| match &entry.answer {
                Answer::Models(models) => Some(models),
                _ => None,
            });
            let lists: Vec<_> = lists.collect();
            assert_eq!(lists.len(), 1, "{}", host.name);
            assert!(lists[0].iter().all(|it| it.owned_by == "me" && it.created == Some(86_400)));
            (host.name.as_str(), lists[0].iter().map(|it| it.id.as_str()).collect::<Vec<_>>().join(" "))
        })
        .collect();
    let want =
        [("x.b.com", "plain precise"), ("a.com", "plain scoped"), ("*.b.com", "plain wild"), ("*", "plain")];
    assert_eq!(told, want.map(|(host, models)| (host, models.to_owned())));
    let all = &checked.topology.gateways[0].listeners[0].hosts[3].entries;
    let order: Vec<_> = all.iter().map(|entry| entry.requests.to_string()).collect();
    let want = ["/v1/models/x/*", "/* x-ai-eg-model=plain", "/* x-ai-eg-model~x.*", "GET = /v1/models", "/*"];
    assert_eq!(order, want);
}
