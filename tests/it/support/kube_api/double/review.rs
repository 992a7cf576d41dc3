//! Questions to the API: whose token is it, and may somebody do something? Entry point [`answer`].

use serde_json::{Value, json};

use super::Cluster;
use super::kinds::Kind;
use super::object::text;
use super::rbac::{self, Asker, Deed};
use super::status::Refusal;

/// The audience of tokens, as a real server has it by default.
const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// The review with its status.
pub(super) fn answer(
    cluster: &Cluster,
    asker: &Asker,
    kind: &Kind,
    review: &Value,
) -> Result<Value, Refusal> {
    let spec = &review["spec"];
    let status = match &*kind.name {
        "TokenReview" => token(cluster, spec)?,
        "SelfSubjectAccessReview" => access(cluster, asker, &deed(kind, spec)?),
        _ => access(cluster, &subject(kind, spec)?, &deed(kind, spec)?),
    };
    let mut answer = review.clone();
    answer["kind"] = json!(kind.name);
    answer["apiVersion"] = json!(kind.api_version());
    answer["metadata"] = json!({});
    answer["status"] = status;
    Ok(answer)
}

fn token(cluster: &Cluster, spec: &Value) -> Result<Value, Refusal> {
    let token = text(&spec["token"]);
    if token.is_empty() {
        return Err(Refusal::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = spec["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = audiences.is_empty() || audiences.iter().any(|audience| audience == AUDIENCE);
    Ok(match cluster.bearer(&token).filter(|_| ours) {
        Some(Asker { user, groups }) => json!({
            "authenticated": true,
            "user": { "username": user, "uid": user, "groups": groups },
            "audiences": [AUDIENCE],
        }),
        None => json!({ "user": {}, "error": "invalid bearer token" }),
    })
}

fn access(cluster: &Cluster, asker: &Asker, deed: &Deed) -> Value {
    match rbac::allowed(&cluster.store.lock(), asker, deed) {
        Some(reason) if reason.is_empty() => json!({ "allowed": true }),
        Some(reason) => json!({ "allowed": true, "reason": reason }),
        None => json!({ "allowed": false }),
    }
}

fn subject(kind: &Kind, spec: &Value) -> Result<Asker, Refusal> {
    let groups: Vec<_> = spec["groups"].as_array().into_iter().flatten().map(text).collect();
    let user = text(&spec["user"]);
    if user.is_empty() && groups.is_empty() {
        let why = "spec.user: Invalid value: \"\": at least one of user or group must be specified";
        return Err(Refusal::invalid("", kind, "", why));
    }
    Ok(Asker { user, groups })
}

fn deed(kind: &Kind, spec: &Value) -> Result<Deed, Refusal> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() == path.is_object() {
        let why = "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or \
                   resourceAttributes must be specified";
        return Err(Refusal::invalid("", kind, "", why));
    }
    if path.is_object() {
        return Ok(Deed { verb: text(&path["verb"]), path: Some(text(&path["path"])), ..Deed::default() });
    }
    let sub = text(&resource["subresource"]);
    let slash = if sub.is_empty() { "" } else { "/" };
    Ok(Deed {
        verb: text(&resource["verb"]),
        group: text(&resource["group"]),
        resource: format!("{}{slash}{sub}", text(&resource["resource"])),
        name: text(&resource["name"]),
        namespace: text(&resource["namespace"]),
        path: None,
    })
}
