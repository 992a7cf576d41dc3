//! Where a pool comes from: a file, a Kubernetes API, or somebody in this process. Of the former two [`Source::choose`]
//! decides and [`Source::open`] begins.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use epp_framework::plugin::Discovery;

use crate::args::ServeArgs;
use crate::cluster::Cluster;
use crate::datastore::StoreWriter;
use crate::discovery::fed::FedSource;
use crate::discovery::file_source::FileSource;
use crate::discovery::kube::{KubeSource, PoolSource};
use crate::pool::PoolState;
use crate::runtime::FILE_INTERVAL;

/// Where the pool comes from.
pub(super) enum Source {
    /// A file that lists the endpoints.
    File(Discovery),
    /// A Kubernetes API.
    Cluster(PoolSource),
}

/// A source that is open; running it feeds the store.
pub(super) enum Discoverer {
    /// A file.
    File(Box<FileSource>),
    /// A Kubernetes API.
    Cluster(Box<KubeSource>),
    /// Who knows the members.
    Fed(Box<FedSource>),
}

impl Source {
    /// The file that the flag or the configuration names, or else the Kubernetes API.
    pub(super) fn choose(
        args: &ServeArgs,
        endpoints_file: Option<&Path>,
        configured: Option<Discovery>,
    ) -> anyhow::Result<Self> {
        let selected = !args.cluster.endpoint_selector.0.is_empty();
        match (endpoints_file, configured) {
            (_, Some(configured)) if selected => bail!(
                "--endpoint-selector is given, but `dataLayer.discovery` of the configuration says {}: set only one of them",
                configured.path.display()
            ),
            (Some(path), Some(configured)) if path != configured.path => bail!(
                "--endpoints-file is {}, but `dataLayer.discovery` of the configuration says {}: set only one of them",
                path.display(),
                configured.path.display()
            ),
            (Some(path), _) => Ok(Self::File(Discovery { path: path.to_owned(), follow: true })),
            (None, Some(configured)) => Ok(Self::File(configured)),
            (None, None) => Ok(Self::Cluster(pool_source(args))),
        }
    }

    /// Opens it. A file is read once already: with any error, there is nothing to serve.
    pub(super) async fn open(
        self,
        cluster: &mut Cluster,
        writer: StoreWriter,
        pool: Arc<PoolState>,
    ) -> anyhow::Result<Discoverer> {
        Ok(match self {
            Self::File(Discovery { path, follow }) => {
                let mut source = FileSource::new(path, follow.then_some(FILE_INTERVAL), writer, pool);
                source.first()?;
                Discoverer::File(Box::new(source))
            }
            Self::Cluster(source) => {
                let client = cluster.client().await?;
                Discoverer::Cluster(Box::new(KubeSource::new(client, source, writer, pool)))
            }
        })
    }
}

fn pool_source(args: &ServeArgs) -> PoolSource {
    let selector = &args.cluster.endpoint_selector.0;
    if selector.is_empty() {
        return PoolSource::Object { group: args.pool.pool_group.clone() };
    }
    let target_ports = args.cluster.endpoint_target_ports.0.clone();
    PoolSource::Selector { selector: selector.clone(), target_ports }
}

impl Discoverer {
    /// Follows the pool for ever; returns the task's name and why it ended.
    pub(super) async fn run(self) -> (&'static str, anyhow::Result<()>) {
        match self {
            Self::File(source) => ("endpoints file", source.run().await),
            Self::Cluster(source) => ("discovery", source.run().await),
            Self::Fed(source) => ("members", source.run().await),
        }
    }
}
