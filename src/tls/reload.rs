//! Follows the certificate's files: [`Reload::run`].
//!
//! All of them must be right together; until then the next handshake uses what was right last. A configuration is
//! swapped as a whole, with its cache of sessions, so that no client resumes past an authority that was taken away.

use crate::file_watch::FilesWatch;
use crate::tls::material::Recipe;
use crate::tls::{Tls, note};

/// The follower of the files of one [`Tls`].
pub struct Reload {
    recipe: Recipe,
    watch: FilesWatch,
    tls: Tls,
}

impl Reload {
    pub(super) fn new(recipe: Recipe, watch: FilesWatch, tls: Tls) -> Self {
        Self { recipe, watch, tls }
    }

    /// Follows them for ever.
    pub async fn run(mut self) -> anyhow::Result<()> {
        self.follow().await;
        Ok(())
    }

    async fn follow(&mut self) {
        let port = self.tls.metrics.port;
        loop {
            let built = match self.watch.changed().await {
                Ok(texts) => self.recipe.build(&texts).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match built {
                Ok(material) => {
                    tracing::info!(port, "certificate reloaded");
                    note(&material, &self.tls.metrics);
                    self.tls.current.store(material.config);
                    self.tls.metrics.reloaded.inc();
                }
                Err(reason) => {
                    self.tls.metrics.refused.inc();
                    tracing::error!(port, reason, "certificate refused; the one before goes on");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
