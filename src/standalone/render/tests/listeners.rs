//! Sockets, TLS and hosts.

use super::*;

fn https(name: &str, hostname: &str, secret: &str) -> ListenerPlan {
    ListenerPlan {
        name: name.to_owned(),
        port: 443,
        hostname: Some(hostname.to_owned()),
        certificates: vec![("ns".to_owned(), secret.to_owned())],
        hosts: vec![Host { name: hostname.to_owned(), entries: Vec::new() }],
    }
}

#[test]
fn with_tls_each_listener_has_a_chain_and_keys_are_never_shown() {
    let mut topology = topology(Vec::new(), Vec::new());
    for secret in ["s", "t"] {
        let certificate = Certificate { chain: "CHAIN".to_owned(), key: "THE-KEY".to_owned() };
        topology.certificates.insert(("ns".to_owned(), secret.to_owned()), certificate);
    }
    topology.gateways[0].listeners =
        vec![https("a", "a.test", "s"), https("b", "b.test", "s"), https("c", "*.c.test", "t")];
    let rendered = render(&topology, &settings(), &mut Findings::default());
    assert!(!format!("{rendered:?}").contains("THE-KEY"));
    let config: Value = serde_yaml::from_str(&rendered.bootstrap()).unwrap();
    let listener = &config["static_resources"]["listeners"][0];
    assert_eq!(listener["address"]["socket_address"]["port_value"], 8443);
    let chains = listener["filter_chains"].as_array().unwrap();
    let of = |chain: &Value| {
        let tls = &chain["transport_socket"]["typed_config"]["common_tls_context"];
        json!([
            chain["name"],
            chain["filter_chain_match"]["server_names"],
            tls["alpn_protocols"],
            tls["tls_certificate_sds_secret_configs"]
        ])
    };
    assert_eq!(
        json!(chains.iter().map(of).collect::<Vec<_>>()),
        json!([
            ["ns/gw/a", ["a.test"], ["http/1.1"], [{"name": "ns/s"}]],
            ["ns/gw/b", ["b.test"], ["http/1.1"], [{"name": "ns/s"}]],
            ["ns/gw/c", ["*.c.test"], ["h2", "http/1.1"], [{"name": "ns/t"}]],
        ])
    );
    let files = rendered.files();
    let secrets: Vec<_> = files.iter().filter(|file| file.kind == XdsKind::Secret).collect();
    assert_eq!(
        secrets.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["sds/ns~s.yaml", "sds/ns~t.yaml"]
    );
    assert!(secrets.iter().all(|file| file.text.contains("THE-KEY")));
    assert!(
        files.iter().filter(|file| file.kind != XdsKind::Secret).all(|file| !file.text.contains("THE-KEY"))
    );
}

#[test]
fn gateways_with_one_port_are_told_and_a_map_helps() {
    let mut both = topology(Vec::new(), Vec::new());
    let second = topology(Vec::new(), Vec::new()).gateways.remove(0);
    both.gateways.push(GatewayPlan { name: "other".to_owned(), ..second });
    let mut settings = settings();
    let (value, told) = config(&both, &settings);
    assert_eq!(value["static_resources"]["listeners"].as_array().unwrap().len(), 1);
    assert!(told.len() == 1 && told[0].contains("--port-map ns/other:80=PORT"), "{told:?}");
    settings.ports.add("ns/other:80=8081").unwrap();
    let rendered = render(&both, &settings, &mut Findings::default());
    let at: Vec<_> = rendered.addresses().values().map(ToString::to_string).collect();
    assert_eq!(at, ["127.0.0.1:8080", "127.0.0.1:8081"]);
}

#[test]
fn listeners_of_one_port_share_a_socket_and_a_host_is_the_more_precise_ones() {
    let mut topology = topology(Vec::new(), Vec::new());
    let listener = |name: &str, hostname: Option<&str>, route: &str| ListenerPlan {
        name: name.to_owned(),
        port: 80,
        hostname: hostname.map(str::to_owned),
        certificates: Vec::new(),
        hosts: vec![Host {
            name: "a.x.test".to_owned(),
            entries: vec![entry(route, Answer::Status(500, String::new()))],
        }],
    };
    topology.gateways[0].listeners =
        vec![listener("all", None, "wide"), listener("x", Some("*.x.test"), "narrow")];
    let (config, _) = config(&topology, &settings());
    assert!(manager(&config)["route_config"]["name"].as_str().unwrap().starts_with("ns/gw/all/"));
    let hosts = manager(&config)["route_config"]["virtual_hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0]["name"], "ns/gw/all/a_x_test");
    assert_eq!(hosts[0]["routes"][0]["name"], "httproute/ns/narrow/rule/0/match/0/a_x_test");
}
