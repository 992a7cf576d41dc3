//! `config/manifests` against the code: what the files say of a picker is what `epp` takes, and they fit together.
//!
//! Where the guides themselves lie beside the clone, what they print is held against the files as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use epp::args::ServeArgs;
use epp::args::read::read;
use epp::compat::Compat;
use epp::config::build;
use serde::Deserialize;
use serde_yaml::Value;

/// What `make image` builds unless told otherwise; no registry has it.
const IMAGE: &str = "epp:dev";
/// What the guides name instead.
const UPSTREAM: &str = "registry.k8s.io/gateway-api-inference-extension/epp:";
/// Files whose every document is printed by a guide.
const PRINTED: &[&str] = &["gateway.yaml", "mistral.yaml", "backend.yaml", "gateway-and-route.yaml"];
const CLUSTER_WIDE: &[&str] = &["ClusterRole", "ClusterRoleBinding", "GatewayClass"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    documents.map(|document| Value::deserialize(document).expect("a YAML document")).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The files of one guide, with their documents.
struct Guide {
    name: String,
    files: Vec<(PathBuf, Vec<Value>)>,
}

impl Guide {
    fn all() -> Vec<Self> {
        let folders = entries(&root().join("config/manifests")).into_iter().filter(|path| path.is_dir());
        let guides: Vec<_> = folders.map(|folder| Self::read(&folder)).collect();
        assert_eq!(guides.len(), 2, "one folder for each guide");
        guides
    }

    fn read(folder: &Path) -> Self {
        let file = |path: PathBuf| (path.clone(), documents(&fs::read_to_string(path).unwrap()));
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, files: entries(folder).into_iter().map(file).collect() }
    }

    fn objects(&self) -> impl Iterator<Item = &Value> {
        self.files.iter().flat_map(|(_, documents)| documents)
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects().filter(move |object| object["kind"] == kind)
    }

    #[track_caller]
    fn find(&self, kind: &str, name: &str) -> &Value {
        let found = self.of_kind(kind).find(|object| text(&object["metadata"]["name"]) == name);
        found.unwrap_or_else(|| panic!("{}: there is no {kind} {name}", self.name))
    }

    /// The deployments that run a picker, with its container.
    fn pickers(&self) -> Vec<(&Value, &Value)> {
        let container = |deployment| items(&pod(deployment)["containers"]).find(|one| one["name"] == "epp");
        self.of_kind("Deployment")
            .filter_map(|deployment| Some((deployment, container(deployment)?)))
            .collect()
    }
}

fn pod(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value:?}"))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

fn texts(value: &Value) -> Vec<&str> {
    items(value).map(text).collect()
}

fn identity(object: &Value) -> [String; 3] {
    [&object["apiVersion"], &object["kind"], &object["metadata"]["name"]].map(|part| text(part).to_owned())
}

fn flags(container: &Value) -> ServeArgs {
    let words = texts(&container["args"]).into_iter().map(str::to_owned).collect();
    read(words, &|_| None).unwrap_or_else(|ending| panic!("{container:?}: {ending:?}")).serve
}

/// Whether `labels` has all that `selector` asks for.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_mapping().expect("a selector");
    !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[test]
fn every_document_is_an_object_that_no_other_overwrites() {
    for guide in Guide::all() {
        let mut seen = BTreeSet::new();
        for object in guide.objects() {
            let identity = identity(object);
            let namespace = (!CLUSTER_WIDE.contains(&identity[1].as_str())).then_some("default");
            assert_eq!(object["metadata"]["namespace"].as_str(), namespace, "{identity:?}");
            assert_ne!(identity[1], "CustomResourceDefinition", "CRDs are upstream's");
            assert!(seen.insert(identity), "{}: {:?} stands there twice", guide.name, object["metadata"]);
        }
    }
}

#[test]
fn the_pickers_arguments_ports_and_probes_fit_together() {
    let mut names = BTreeMap::new();
    for guide in Guide::all() {
        for (deployment, container) in guide.pickers() {
            assert_eq!(container["image"], IMAGE, "a registry that does not exist must not be named");
            let args = flags(container);
            let (listeners, pool) = (&args.listeners, &args.pool);
            let ports: Vec<_> = items(&container["ports"]).map(|port| &port["containerPort"]).collect();
            assert_eq!(ports, [listeners.grpc_port, listeners.grpc_health_port, listeners.metrics_port]);
            for probe in ["livenessProbe", "readinessProbe"] {
                let grpc = &container[probe]["grpc"];
                assert_eq!(grpc["port"], listeners.grpc_health_port, "{probe}");
                assert_eq!(grpc["service"], "inference-extension", "{probe}");
            }
            let grace = pod(deployment)["terminationGracePeriodSeconds"].as_u64().unwrap();
            assert!(grace > args.limits.drain_timeout.as_secs());

            let object = guide.find("InferencePool", &pool.pool_name);
            let group = text(&object["apiVersion"]).split('/').next().unwrap();
            assert_eq!((group, pool.pool_namespace.as_str()), (pool.pool_group.as_str(), "default"));
            let spec = &object["spec"];
            let reference = spec.get("endpointPickerRef").unwrap_or(&spec["extensionRef"]);
            let service = &guide.find("Service", text(&reference["name"]))["spec"];
            assert!(selects(&service["selector"], &deployment["spec"]["template"]["metadata"]["labels"]));
            let port = reference.get("port").map_or(9002, |port| port["number"].as_u64().unwrap());
            assert_eq!((&service["ports"][0]["port"], port), (&port.into(), listeners.grpc_port.into()));
            assert_eq!(service["ports"][0]["targetPort"], listeners.grpc_port);

            let selector = spec["selector"].get("matchLabels").unwrap_or(&spec["selector"]);
            let labels = |one: &Value| selects(selector, &one["spec"]["template"]["metadata"]["labels"]);
            assert_eq!(
                guide.of_kind("Deployment").filter(|one| labels(one)).count(),
                1,
                "{}",
                pool.pool_name
            );
            names.insert((guide.name.clone(), pool.pool_name.clone()), args.compat());
        }
    }
    let names: Vec<_> =
        names.iter().map(|((guide, pool), compat)| (guide.as_str(), pool.as_str(), *compat)).collect();
    assert_eq!(
        names,
        [
            ("aigatewayroute", "mistral", Compat::V1_0_1),
            ("aigatewayroute", "vllm-llama3-8b-instruct", Compat::V1_0_1),
            ("httproute", "vllm-llama3-8b-instruct", Compat::V0_5_1),
        ]
    );
}

#[test]
fn the_pickers_configurations_are_mounted_and_load_without_a_word() {
    let shipped = |file: &str| fs::read_to_string(root().join("config").join(file)).unwrap();
    for guide in Guide::all() {
        for (deployment, container) in guide.pickers() {
            let file = flags(container).config.config_file.expect("it has a configuration");
            let mount = &container["volumeMounts"][0];
            let key = file.strip_prefix(text(&mount["mountPath"])).expect("it is mounted").to_str().unwrap();
            let volume = items(&pod(deployment)["volumes"]).find(|volume| volume["name"] == mount["name"]);
            let map = guide.find("ConfigMap", text(&volume.expect("a volume")["configMap"]["name"]));
            for (name, config) in map["data"].as_mapping().unwrap() {
                let (composition, problems) = build::load(text(config), epp_plugins::BUILT_IN);
                assert!(composition.is_some() && problems.is_empty(), "{name:?}: {problems:?}");
            }
            let same = if guide.name == "httproute" { "legacy-plugins.yaml" } else { "default-plugins.yaml" };
            let [ours, theirs] = [text(&map["data"][key]), &shipped(same)].map(documents);
            assert_eq!(ours, theirs, "{} and config/{same}", guide.name);
        }
    }
}

/// Everything that the roles bound to this account allow, as `group/resource` of `get`, `list` and `watch` or `create`.
fn rights(guide: &Guide, account: &str) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for kind in ["RoleBinding", "ClusterRoleBinding"] {
        let bindings = guide.of_kind(kind);
        for binding in
            bindings.filter(|one| items(&one["subjects"]).any(|subject| subject["name"] == account))
        {
            let role = guide.find(text(&binding["roleRef"]["kind"]), text(&binding["roleRef"]["name"]));
            for rule in items(&role["rules"]) {
                let verbs = match texts(&rule["verbs"])[..] {
                    ["get", "watch", "list"] => "",
                    ["create"] => "create ",
                    ref other => panic!("{other:?}"),
                };
                for (group, resource) in texts(&rule["apiGroups"]).iter().flat_map(|group| {
                    texts(&rule["resources"]).into_iter().map(move |resource| (group, resource))
                }) {
                    rights.insert(format!("{verbs}{group}/{resource}"));
                }
            }
        }
    }
    rights
}

#[test]
fn the_pickers_have_the_rights_of_upstream_and_no_more() {
    const REVIEWS: [&str; 2] =
        ["create authentication.k8s.io/tokenreviews", "create authorization.k8s.io/subjectaccessreviews"];
    for guide in Guide::all() {
        for (deployment, _) in guide.pickers() {
            let account = pod(deployment).get("serviceAccountName").map_or("default", text);
            if account != "default" {
                guide.find("ServiceAccount", account);
            }
            let x_k8s = |resource: &str| format!("inference.networking.x-k8s.io/{resource}");
            let mut want: BTreeSet<String> = REVIEWS.map(str::to_owned).into();
            want.extend(["/pods".to_owned(), x_k8s("inferencepools")]);
            if guide.name == "httproute" {
                want.insert(x_k8s("inferencemodels"));
            } else {
                want.extend([
                    x_k8s("inferenceobjectives"),
                    "inference.networking.k8s.io/inferencepools".into(),
                ]);
            }
            assert_eq!(rights(&guide, account), want, "{} {account}", guide.name);
        }
    }
}

#[test]
fn routes_lead_to_what_is_there() {
    for guide in Guide::all() {
        let mut n_backends = 0;
        for route in ["HTTPRoute", "AIGatewayRoute"].into_iter().flat_map(|kind| guide.of_kind(kind)) {
            for backend in items(&route["spec"]["rules"]).flat_map(|rule| items(&rule["backendRefs"])) {
                let kind = backend.get("kind").map_or("AIServiceBackend", text);
                let object = guide.find(kind, text(&backend["name"]));
                let group = backend.get("group").map_or("aigateway.envoyproxy.io", text);
                assert_eq!(text(&object["apiVersion"]).split('/').next(), Some(group));
                n_backends += 1;
            }
            for parent in items(&route["spec"]["parentRefs"]) {
                let gateway = guide.find("Gateway", text(&parent["name"]));
                guide.find("GatewayClass", text(&gateway["spec"]["gatewayClassName"]));
            }
        }
        assert_eq!(n_backends, if guide.name == "httproute" { 1 } else { 3 });
    }
}

#[test]
fn the_readme_names_every_file() {
    let readme = fs::read_to_string(root().join("config/manifests/README.md")).unwrap();
    for (path, _) in Guide::all().iter().flat_map(|guide| &guide.files) {
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("`kubectl apply -f {path}`")), "{path}");
    }
}

/// What a guide applies from standard input.
fn heredocs(page: &str) -> Vec<&str> {
    let parts = page.split("<<EOF | kubectl apply -f -\n").skip(1);
    parts.map(|rest| rest.split_once("\nEOF\n").expect("an end").0).collect()
}

#[test]
fn a_heredoc_ends_with_its_last_line() {
    let page = "x\ncat <<EOF | kubectl apply -f -\na: 1\n---\nb: 2\nEOF\n\ncat <<EOF | kubectl apply -f -\nc: 3\nEOF\n";
    assert_eq!(heredocs(page), ["a: 1\n---\nb: 2", "c: 3"]);
}

/// Puts our image in the place of upstream's picker.
fn with_our_image(mut object: Value) -> Value {
    if object["kind"] == "Deployment" {
        for container in
            object["spec"]["template"]["spec"]["containers"].as_sequence_mut().into_iter().flatten()
        {
            if text(&container["image"]).starts_with(UPSTREAM) {
                container["image"] = IMAGE.into();
            }
        }
    }
    object
}

/// Only where the guides lie beside the clone; nothing else needs them.
#[test]
fn what_the_guides_print_is_what_the_files_say() {
    let folder = root().join("../shared/seeds");
    if !folder.is_dir() {
        return;
    }
    let pages: Vec<_> = entries(&folder).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let printed: Vec<Value> =
        pages.iter().flat_map(|page| heredocs(page)).flat_map(documents).map(with_our_image).collect();
    assert!(printed.len() > 20, "the guides' objects are not found: {}", printed.len());
    let guides = Guide::all();
    let find = |wanted: &Value| guides.iter().flat_map(Guide::objects).any(|object| object == wanted);
    let missing: Vec<_> = printed.iter().filter(|object| !find(object)).map(identity).collect();
    assert!(missing.is_empty(), "printed in a guide, and not or otherwise in config/manifests: {missing:#?}");

    let files = guides.iter().flat_map(|guide| &guide.files);
    let ours = files.filter(|(path, _)| PRINTED.contains(&path.file_name().unwrap().to_str().unwrap()));
    let added: Vec<_> = ours
        .flat_map(|(_, objects)| objects)
        .filter(|object| !printed.contains(object))
        .map(identity)
        .collect();
    assert!(added.is_empty(), "in config/manifests, and in no guide: {added:#?}");
}
