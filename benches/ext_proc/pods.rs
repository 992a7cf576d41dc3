//! Stand-ins for model servers: each has a port and a metrics page, nothing else. Entry point [`run`].

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::process;

const WHOLE: &str = include_str!("../../tests/it/fixtures/real_vllm/metrics-loaded.prom");
const FILTERED: &str = include_str!("../../tests/it/fixtures/real_vllm/metrics-filtered.prom");

/// Pages as they go over the wire.
struct Pages {
    whole: Vec<u8>,
    filtered: Vec<u8>,
}

/// Serves `pods` ports until killed. With `plain` a request for some families gets the whole page as well, as from
/// servers that do not filter.
pub(crate) fn run(pods: u16, plain: bool) -> anyhow::Result<()> {
    let page = |page: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{page}", page.len())
            .into_bytes()
    };
    let filtered = page(if plain { WHOLE } else { FILTERED });
    let pages: &'static Pages = Box::leak(Box::new(Pages { whole: page(WHOLE), filtered }));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (mut tasks, mut ports) = (JoinSet::new(), Vec::new());
        for _ in 0..pods {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
            ports.push(listener.local_addr()?.port());
            tasks.spawn(serve(listener, pages));
        }
        process::announce(&ports);
        while tasks.join_next().await.is_some() {}
        Ok(())
    })
}

async fn serve(listener: TcpListener, pages: &'static Pages) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        connections.spawn(async move {
            // A client that goes away is no error.
            let _ = answer(connection, pages).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(mut connection: TcpStream, pages: &Pages) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut request = Vec::new();
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            if connection.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let page = if request.starts_with(b"GET /metrics/?name") { &pages.filtered } else { &pages.whole };
        connection.write_all(page).await?;
    }
}
