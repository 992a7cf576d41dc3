//! One request, from its line to its answer: entry point [`answer`].

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Cluster;
use super::faults::{Faults, FaultsSeen};
use super::kinds::{self, Kind};
use super::object::Object;
use super::rbac::{self, Asker, Deed};
use super::selector::Selector;
use super::status::Refusal;
use super::store::Key;
use super::watch::{Wanted, Watch};
use super::write::{self, Part};
use super::{list, review};

/// The parameters of a query.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Options {
    pub(super) label_selector: String,
    pub(super) field_selector: String,
    pub(super) limit: usize,
    #[serde(rename = "continue")]
    pub(super) continue_token: String,
    pub(super) resource_version: String,
    watch: String,
    allow_watch_bookmarks: bool,
    send_initial_events: bool,
    timeout_seconds: Option<u64>,
    grace_period_seconds: Option<i64>,
}

/// What a path is about.
#[derive(Debug, Default)]
struct Target {
    group: String,
    version: String,
    namespace: Option<String>,
    plural: String,
    name: String,
    sub: String,
}

/// One request that may be answered.
struct Ask {
    cluster: Arc<Cluster>,
    faults: Option<FaultsSeen>,
    asker: Asker,
    method: Method,
    headers: HeaderMap,
    target: Target,
    options: Options,
    body: Value,
}

type Answered = Result<Response<Body>, Refusal>;

/// Answers a request; with faults, if they are given.
pub(super) async fn answer(
    cluster: Arc<Cluster>,
    faults: Option<Arc<Faults>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut seen = faults.as_ref().map(FaultsSeen::new);
    if let Some(seen) = &mut seen {
        seen.while_hung().await;
    }
    if let Some(code) = faults.as_ref().and_then(|faults| *faults.answer.lock()) {
        return refused(&Refusal::trouble(code));
    }
    let (parts, body) = request.into_parts();
    // Whoever hangs up while sending hears no answer.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    respond(cluster, seen, parts, &body).unwrap_or_else(|refusal| refused(&refusal))
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = json_body(refusal.code, refusal.to_json().to_string());
    if refusal.code == 429 {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

fn json_body(code: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).expect("a status code");
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// What the real one says of paths that nothing serves; it is no `Status`.
fn nothing_there() -> Response<Body> {
    let mut response = Response::new("404 page not found\n".into());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn respond(cluster: Arc<Cluster>, faults: Option<FaultsSeen>, parts: Parts, body: &[u8]) -> Answered {
    let asker = cluster.who(&parts.headers).ok_or_else(Refusal::unauthorized)?;
    let path = parts.uri.path();
    let Query(options) = Query::<Options>::try_from_uri(&parts.uri)
        .map_err(|problem| Refusal::bad_request(problem.body_text()))?;
    let target = Target::of(path);
    let deed = deed(&parts.method, path, target.as_ref(), &options);
    if rbac::allowed(&cluster.store.lock(), &asker, &deed).is_none() {
        return Err(deed.forbidden(&asker.user));
    }
    let Some(target) = target else { return Ok(discovery(&cluster, path)) };
    let body = read(&parts.headers, body)?;
    let (method, headers) = (parts.method, parts.headers);
    Ask { cluster, faults, asker, method, headers, target, options, body }.answer()
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let sort = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !matches!(sort, "" | "application/json" | "application/merge-patch+json") {
        return Err(Refusal::new(415, "UnsupportedMediaType", format!("the double does not read {sort}")));
    }
    serde_json::from_slice(body).map_err(|problem| Refusal::bad_request(problem.to_string()))
}

fn discovery(cluster: &Cluster, path: &str) -> Response<Body> {
    let store = cluster.store.lock();
    let versions = json!({ "kind": "APIVersions", "versions": ["v1"] });
    let found = match path.trim_end_matches('/').trim_start_matches('/') {
        "version" => Some(json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.0" })),
        "readyz" | "livez" | "healthz" => return Response::new("ok".into()),
        "api" => Some(versions),
        "apis" => Some(kinds::group_list(store.kinds())),
        path => {
            let group_version = path.strip_prefix("apis/").or_else(|| path.strip_prefix("api/"));
            group_version.and_then(|wanted| kinds::described(store.kinds(), wanted))
        }
    };
    found.map_or_else(nothing_there, |found| json_body(200, found.to_string()))
}

impl Target {
    /// Reads a path; those of discovery are about nothing.
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<_> = path.trim_start_matches('/').split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] if !matches!(*plural, "status" | "finalize") => {
                (Some((*namespace).to_owned()), [&[*plural], rest].concat())
            }
            rest => (None, rest.to_vec()),
        };
        let part = |at: usize| rest.get(at).map(|part| (*part).to_owned()).unwrap_or_default();
        (!rest.is_empty()).then(|| Self {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace,
            plural: part(0),
            name: part(1),
            sub: part(2),
        })
    }
}

fn deed(method: &Method, path: &str, target: Option<&Target>, options: &Options) -> Deed {
    let Some(target) = target else {
        return Deed { verb: method.as_str().to_lowercase(), path: Some(path.to_owned()), ..Deed::default() };
    };
    let verb = match (method.as_str(), target.name.is_empty()) {
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        (_, false) => "get",
        _ if options.is_watch() => "watch",
        _ => "list",
    };
    let slash = if target.sub.is_empty() { "" } else { "/" };
    let name = if target.name.is_empty() { Selector::name(&options.field_selector) } else { None };
    Deed {
        verb: verb.to_owned(),
        group: target.group.clone(),
        resource: format!("{}{slash}{}", target.plural, target.sub),
        name: name.unwrap_or_else(|| target.name.clone()),
        namespace: target.namespace.clone().unwrap_or_default(),
        path: None,
    }
}

impl Options {
    fn is_watch(&self) -> bool {
        matches!(&*self.watch, "true" | "1")
    }
}

impl Ask {
    fn answer(self) -> Answered {
        let Target { group, version, plural, .. } = &self.target;
        let Some(kind) = self.cluster.store.lock().kind(group, version, plural) else {
            let known = kinds::built_in().iter().any(|kind| kind.group == *group && kind.version == *version);
            let message = "the server could not find the requested resource";
            return if known { Err(Refusal::new(404, "NotFound", message)) } else { Ok(nothing_there()) };
        };
        if kind.review {
            let answer = review::answer(&self.cluster, &self.asker, &kind, &self.body)?;
            return Ok(json_body(201, answer.to_string()));
        }
        match (self.method.as_str(), self.target.name.is_empty()) {
            ("GET", true) if self.options.is_watch() => self.watch(kind),
            ("GET", true) => {
                let selector = self.selector(&kind)?;
                list::answer(&self.cluster, &kind, &selector, &self.options).map(|list| json_body(200, list))
            }
            ("GET", false) => self.get(&kind),
            ("DELETE", true) => self.delete_all(&kind),
            ("DELETE", false) => self.delete(&kind),
            ("POST" | "PUT" | "PATCH", _) => self.write(&kind),
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    fn key(&self) -> Key {
        (self.target.namespace.clone().unwrap_or_default(), self.target.name.clone())
    }

    fn selector(&self, kind: &Kind) -> Result<Selector, Refusal> {
        let (labels, fields) = (&self.options.label_selector, &self.options.field_selector);
        Selector::parse(kind, self.target.namespace.as_deref(), labels, fields)
    }

    fn watch(self, kind: Arc<Kind>) -> Answered {
        let selector = self.selector(&kind)?;
        let since = match &*self.options.resource_version {
            _ if self.options.send_initial_events => None,
            "" | "0" => None,
            version => Some(version.parse().map_err(|_| invalid_version(version))?),
        };
        let wanted = Wanted {
            kind,
            selector,
            since,
            tell_initial_end: self.options.send_initial_events,
            bookmarks: self.options.allow_watch_bookmarks,
            lasts: Duration::from_secs(self.options.timeout_seconds.unwrap_or(1800)),
        };
        Ok(json_body(200, Watch::stream(self.cluster, wanted, self.faults)))
    }

    fn get(&self, kind: &Kind) -> Answered {
        let found = self.cluster.store.lock().get(&kind.qualified(), &self.key());
        found
            .map(|object| shown(200, kind, &object))
            .ok_or_else(|| Refusal::not_found(kind, &self.target.name))
    }

    fn delete(&self, kind: &Kind) -> Answered {
        let options = self.delete_options();
        let object = write::delete(&mut self.cluster.store.lock(), kind, &self.key(), &options)?;
        if kind.is("", "pods") || object.value["metadata"]["deletionTimestamp"].is_string() {
            return Ok(shown(200, kind, &object));
        }
        let details = json!({
            "name": self.target.name, "group": kind.group, "kind": kind.plural, "uid": object.value["metadata"]["uid"],
        });
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        });
        Ok(json_body(200, status.to_string()))
    }

    fn delete_options(&self) -> Value {
        let mut options = if self.body.is_object() { self.body.clone() } else { json!({}) };
        if let Some(grace) = self.options.grace_period_seconds {
            options["gracePeriodSeconds"] = json!(grace);
        }
        options
    }

    fn delete_all(&self, kind: &Kind) -> Answered {
        let selector = self.selector(kind)?;
        let mut store = self.cluster.store.lock();
        for object in store.select(&kind.qualified(), &selector) {
            write::delete(&mut store, kind, &object.key(), &self.delete_options())?;
        }
        Ok(json_body(200, json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }).to_string()))
    }

    fn write(self, kind: &Kind) -> Answered {
        let part = match &*self.target.sub {
            "" => Part::Main,
            "status" if kind.has_status => Part::Status,
            _ => return Ok(nothing_there()),
        };
        if kind.namespaced != self.target.namespace.is_some()
            || (self.method == Method::POST) != self.target.name.is_empty()
        {
            return Err(Refusal::method_not_allowed());
        }
        if !self.body.is_object() {
            return Err(Refusal::bad_request("the object provided is unrecognized"));
        }
        let (key, store) = (self.key(), &mut self.cluster.store.lock());
        let (code, object) = match self.method.as_str() {
            "POST" => (201, write::create(store, kind, &key.0, self.body)?),
            "PUT" => (200, write::replace(store, kind, &key, (part, self.body))?),
            _ if !self.is_merge_patch() => {
                let message = "the double knows no patch but the merge patch";
                return Err(Refusal::new(415, "UnsupportedMediaType", message));
            }
            _ => (200, write::patch(store, kind, &key, (part, &self.body))?),
        };
        Ok(shown(code, kind, &object))
    }

    fn is_merge_patch(&self) -> bool {
        self.headers.get(header::CONTENT_TYPE).is_some_and(|sort| sort == "application/merge-patch+json")
    }
}

fn invalid_version(version: &str) -> Refusal {
    let why = format!("strconv.ParseUint: parsing \"{version}\": invalid syntax");
    Refusal::new(500, "", format!("resourceVersion: Invalid value: \"{version}\": {why}"))
}

fn shown(code: u16, kind: &Kind, object: &Object) -> Response<Body> {
    let mut body = Vec::new();
    object.write(kind, &mut body);
    json_body(code, body)
}
