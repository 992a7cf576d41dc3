//! Metrics and debug pages: what the flags need ([`open`]), and their port ([`serve`]).

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use prometheus::Registry;
use tokio::net::TcpListener;

use crate::admin::access::{Access, Debug};
use crate::admin::guard::Guard;
use crate::admin::reviews::{ReviewMetrics, Reviews};
use crate::admin::token_file::TokenFile;
use crate::admin::{self, Guards};
use crate::args::ServeArgs;
use crate::cluster::Cluster;
use crate::http1;
use crate::pools::Pools;
use crate::runtime::{FILE_INTERVAL, Tasks};
use crate::sockets::sockets;
use crate::tls::acceptor::Acceptor;
use crate::tls::material::Recipe;
use crate::tls::{self, Tls};

/// Prometheus asks every minute at the latest, usually, and keeps its connection.
const LIMITS: http1::Limits = http1::Limits { connections: 512, silence: Duration::from_secs(75) };

/// What the port needs.
pub(super) struct Admin {
    guards: Guards,
    tls: Option<Tls>,
}

/// Reads the flags and the files that they name, and follows those in `tasks`. `in_cluster` says whether the pool comes
/// from a Kubernetes API; where it does not, one is looked for only if a flag needs it.
pub(super) async fn open(
    args: &ServeArgs,
    in_cluster: bool,
    cluster: &mut Cluster,
    registry: &Registry,
    tasks: &mut Tasks,
) -> anyhow::Result<Admin> {
    let access = Access::of(&args.admin, in_cluster).map_err(anyhow::Error::msg)?;
    let mut reviews = ReviewsOnce { cluster, registry, made: None };
    let metrics = if access.metrics_auth {
        Guard::Review(reviews.get("--metrics-endpoint-auth").await?)
    } else {
        Guard::Open
    };
    let debug = match &access.debug {
        Debug::Off => None,
        Debug::Loopback => Some(Guard::Loopback),
        Debug::Review => Some(Guard::Review(reviews.get("--debug-access=review").await?)),
        Debug::Token(path) => {
            let (token, follower) = TokenFile::open(path, FILE_INTERVAL)?;
            tasks.spawn(async move { ("debug token file", follower.run().await) });
            Some(Guard::Token(token))
        }
    };
    let mut tls = None;
    if let Some((folder, client_ca)) = &access.tls {
        let recipe = Recipe::http1(folder, client_ca.as_deref(), &args.tls);
        let interval = args.tls.enable_cert_reload.then_some(FILE_INTERVAL);
        let (opened, reload) = tls::open_metrics(recipe, interval, registry)?;
        if let Some(reload) = reload {
            tasks.spawn(async move { ("metrics certificate files", reload.run().await) });
        }
        tls = Some(opened);
    }
    Ok(Admin { guards: Guards { metrics, debug }, tls })
}

/// The reviews of both kinds of pages, made by the first flag that needs them.
struct ReviewsOnce<'a> {
    cluster: &'a mut Cluster,
    registry: &'a Registry,
    made: Option<Arc<Reviews>>,
}

impl ReviewsOnce<'_> {
    async fn get(&mut self, flag: &str) -> anyhow::Result<Arc<Reviews>> {
        if let Some(reviews) = &self.made {
            return Ok(reviews.clone());
        }
        let client = self.cluster.client().await;
        let client = client.with_context(|| format!("{flag} asks a Kubernetes API who may read"))?;
        let reviews = Reviews::new(client, ReviewMetrics::register(self.registry)?)?;
        Ok(self.made.insert(reviews).clone())
    }
}

/// Serves the port for ever.
pub(super) async fn serve(listener: TcpListener, pools: Arc<Pools>, admin: Admin) {
    let connections = Acceptor::new(sockets(listener), admin.tls).connections();
    let connections = connections.map(|Ok(connection)| connection.without_preface()).boxed();
    http1::serve(connections, LIMITS, admin::router(pools, admin.guards)).await;
}
