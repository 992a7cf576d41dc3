//! Pools, backends and pickers.

use super::*;

#[test]
fn pools_are_members_that_the_picker_chooses_from() {
    let entries = vec![entry("a", Answer::Forward(vec![share(to_pool("one"))]))];
    let topology = topology(entries, vec![PoolPlan { is_h2c: true, ..pool("one") }]);
    let mut settings = settings();
    let member = Address::Host("127.0.0.5".to_owned(), 8000);
    settings.members.insert(("ns".to_owned(), "one".to_owned()), vec![member]);
    let (config, _) = config(&topology, &settings);
    let cluster = cluster(&config, "httproute/ns/a/rule/0");
    let typed = &cluster["load_balancing_policy"]["policies"][0]["typed_extension_config"]["typed_config"];
    let metadata = |key: &str| json!({"key": "envoy.lb", "path": [{"key": key}]});
    assert_eq!(
        typed["override_host_sources"],
        json!([{"metadata": metadata("x-gateway-destination-endpoint")}, {"header": "x-gateway-destination-endpoint"}])
    );
    assert_eq!(typed["selected_host_key"], metadata("x-gateway-destination-endpoint-served"));
    let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    assert_eq!(endpoint["address"]["socket_address"], json!({"address": "127.0.0.5", "port_value": 8000}));
    let http = &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    assert_eq!(http["explicit_http_config"], json!({"http2_protocol_options": {}}));
    let retries = &routes(&config)[0]["route"]["retry_policy"];
    assert_eq!((&retries["num_retries"], &retries["retry_host_predicate"]), (&json!(3), &Value::Null));
    let options = &manager(&config)["http_filters"][0]["typed_config"]["metadata_options"];
    assert_eq!(options["receiving_namespaces"]["untyped"], json!(["envoy.lb", "io.envoy.ai_gateway"]));
}

#[test]
fn backends_are_looked_up_unless_it_is_known_where_they_are() {
    let unix = Target::Backend {
        namespace: "ns".to_owned(),
        name: "u".to_owned(),
        endpoints: vec![Address::Unix("/run/u".to_owned())],
        tls: None,
    };
    let service = |port| Target::Service { namespace: "ns".to_owned(), name: "s".to_owned(), port };
    let here = vec![Address::Host("127.0.0.1".to_owned(), 1), Address::Host("127.0.0.1".to_owned(), 2)];
    let mut settings = settings();
    settings.service_hosts.insert(("s.ns.svc.cluster.local".to_owned(), 80), here);
    for (target, kind, want) in [
        (backend("up.test.", 80), "STRICT_DNS", json!(["up.test:80 up.test"])),
        (backend("10.0.0.1", 80), "STATIC", json!(["10.0.0.1:80 -"])),
        (backend("s.ns.svc", 80), "STATIC", json!(["127.0.0.1:1 s.ns.svc", "127.0.0.1:2 s.ns.svc"])),
        (
            service(80),
            "STATIC",
            json!(["127.0.0.1:1 s.ns.svc.cluster.local", "127.0.0.1:2 s.ns.svc.cluster.local"]),
        ),
        (service(81), "STRICT_DNS", json!(["s.ns.svc.cluster.local:81 s.ns.svc.cluster.local"])),
        (unix, "STATIC", json!(["/run/u -"])),
    ] {
        let entries = vec![entry("a", Answer::Forward(vec![share(target)]))];
        let (config, _) = config(&topology(entries, Vec::new()), &settings);
        let cluster = cluster(&config, "httproute/ns/a/rule/0");
        let of = |one: &Value| {
            let address = &one["endpoint"]["address"];
            let at = address["pipe"]["path"].as_str().map_or_else(
                || {
                    let at = &address["socket_address"];
                    format!("{}:{}", at["address"].as_str().unwrap(), at["port_value"])
                },
                str::to_owned,
            );
            format!("{at} {}", one["endpoint"]["hostname"].as_str().unwrap_or("-"))
        };
        let all = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].as_array().unwrap();
        assert_eq!(
            (cluster["type"].as_str(), json!(all.iter().map(of).collect::<Vec<_>>())),
            (Some(kind), want)
        );
    }
}

#[test]
fn upstreams_prove_themselves_as_their_backend_says() {
    let tls = UpstreamTls { name: None, authorities: None, insecure: false };
    for (tls, sni, san, ca) in [
        (
            UpstreamTls { name: Some("n.test".to_owned()), ..tls.clone() },
            json!("n.test"),
            json!("n.test"),
            json!("/ca.pem"),
        ),
        (UpstreamTls { insecure: true, ..tls.clone() }, json!(null), json!(null), json!(null)),
        (tls, json!(null), json!(null), json!("/ca.pem")),
    ] {
        let by_request = tls.name.is_none();
        let endpoints = vec![Address::Host("up.test".to_owned(), 443)];
        let target =
            Target::Backend { namespace: "ns".to_owned(), name: "b".to_owned(), endpoints, tls: Some(tls) };
        let (config, _) = config(
            &topology(vec![entry("a", Answer::Forward(vec![share(target)]))], Vec::new()),
            &settings(),
        );
        let cluster = cluster(&config, "httproute/ns/a/rule/0");
        let typed = &cluster["transport_socket"]["typed_config"];
        let validation = &typed["common_tls_context"]["validation_context"];
        assert_eq!(typed["sni"], sni);
        assert_eq!(validation["match_typed_subject_alt_names"][0]["matcher"]["exact"], san);
        assert_eq!(validation["trusted_ca"]["filename"], ca);
        assert_eq!(cluster["typed_extension_protocol_options"].is_object(), by_request);
    }
}

#[test]
fn a_pool_that_fails_open_is_rendered_so_far_as_it_holds() {
    for (health, mode, wants_check, told_want) in [
        (true, BodyMode::Duplex, true, 0),
        (false, BodyMode::Duplex, false, 1),
        (false, BodyMode::Buffered, false, 0),
    ] {
        let pool = PoolPlan { fail_open: true, body_mode: mode, ..pool("one") };
        let entries = vec![entry("a", Answer::Forward(vec![share(to_pool("one"))]))];
        let settings = Settings { picker_tells_health: health, ..settings() };
        let (config, told) = config(&topology(entries, vec![pool]), &settings);
        assert_eq!(told.len(), told_want, "{told:?}");
        assert_eq!(manager(&config)["http_filters"][0]["typed_config"]["failure_mode_allow"], true);
        let picker = cluster(&config, "envoy.clusters.endpointpicker_one_ns_ext_proc");
        assert_eq!(picker["health_checks"].is_array(), wants_check);
    }
}

#[test]
fn shares_stand_in_for_each_other_by_priority() {
    let shares = vec![
        Share { priority: 3, ..share(backend("10.0.0.3", 80)) },
        Share { priority: 1, weight: 2, ..share(backend("10.0.0.1", 80)) },
    ];
    let (config, _) = config(&topology(vec![entry("a", Answer::Forward(shares))], Vec::new()), &settings());
    let endpoints = &cluster(&config, "httproute/ns/a/rule/0")["load_assignment"]["endpoints"];
    let of = |n: usize| &endpoints[n]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"];
    assert_eq!((of(0), of(1)), (&json!("10.0.0.1"), &json!("10.0.0.3")));
    assert_eq!((&endpoints[0]["priority"], &endpoints[1]["priority"]), (&Value::Null, &json!(1)));
}
