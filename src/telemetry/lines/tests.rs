//! Lines, as a pipeline and as a person see them.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// What is logged while `events` runs.
fn logged(encoder: Encoder, time: TimeEncoding, events: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(move || writer.clone())
        .event_format(Lines { encoder, time });
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
    let bytes = sink.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn json_lines_have_zaps_keys_in_zaps_order_and_flat_fields() {
    let line = logged(Encoder::Json, TimeEncoding::Rfc3339Millis, || {
        tracing::info!(target: "epp::scrape::poll", endpoint = "a/b", n = 3, ok = true, share = 0.5, "found");
    });
    let parsed: Value = serde_json::from_str(&line).unwrap();
    let keys = ["\"level\"", "\"ts\"", "\"logger\"", "\"caller\"", "\"msg\"", "\"endpoint\""];
    let places: Vec<usize> = keys.iter().map(|key| line.find(key).expect(key)).collect();
    assert!(places.is_sorted(), "{line}");
    for (key, want) in [
        ("level", Value::from("info")),
        ("logger", "epp.scrape".into()),
        ("msg", "found".into()),
        ("endpoint", "a/b".into()),
        ("n", 3.into()),
        ("ok", true.into()),
        ("share", 0.5.into()),
    ] {
        assert_eq!(parsed[key], want, "{line}");
    }
    let caller = parsed["caller"].as_str().unwrap();
    assert!(caller.starts_with("src/telemetry/lines/tests.rs:"), "{caller}");
    let ts = parsed["ts"].as_str().unwrap();
    assert!(ts.len() == 24 && ts.ends_with('Z') && ts.as_bytes()[19] == b'.', "{ts}");
    assert_eq!(parsed.as_object().unwrap().len(), 9);
}

#[test]
fn levels_are_zaps_words() {
    let lines = logged(Encoder::Json, TimeEncoding::Epoch, || {
        tracing::error!("x");
        tracing::warn!("x");
        tracing::info!("x");
        tracing::debug!("x");
        tracing::trace!("x");
    });
    let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let levels: Vec<_> = parsed.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["error", "warn", "info", "debug", "Level(-5)"]);
    assert!(parsed.iter().all(|line| line["ts"].is_f64()), "{lines}");
}

#[test]
fn an_event_is_one_line_whatever_is_in_it() {
    let nasty = "a\nb\r\"c\"\u{1b}[31m\t=\\";
    for encoder in [Encoder::Json, Encoder::Console] {
        let line = logged(encoder, TimeEncoding::Nano, || tracing::warn!(text = nasty, "{nasty}"));
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(!line.contains(['\r', '\u{1b}']), "{line:?}");
    }
    let line = logged(Encoder::Json, TimeEncoding::Nano, || tracing::warn!(text = nasty, "{nasty}"));
    let parsed: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((parsed["text"].as_str(), parsed["msg"].as_str()), (Some(nasty), Some(nasty)));
}

#[test]
fn fields_do_not_hide_the_keys() {
    let line = logged(Encoder::Json, TimeEncoding::Nano, || tracing::warn!(level = 7, msg = "mine", "said"));
    assert!(line.contains(r#""level":"warn""#) && line.contains(r#""level_":7"#), "{line}");
    assert!(line.contains(r#""msg":"said""#) && line.contains(r#""msg_":"mine""#), "{line}");
}

#[test]
fn console_lines_are_for_people() {
    let line = logged(Encoder::Console, TimeEncoding::Rfc3339, || {
        tracing::info!(target: "epp::scrape::poll", endpoint = "a/b", why = "was told so", n = 2, "stale");
    });
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!(time.len(), "2026-11-21T10:00:00Z".len());
    assert_eq!(rest, "INFO scrape: stale endpoint=a/b why=\"was told so\" n=2\n");
}

#[test]
fn paths_of_libraries_are_cut() {
    for (path, want) in [
        ("src/scrape/poll.rs", "src/scrape/poll.rs"),
        ("plugins/framework/endpoint.rs", "plugins/framework/endpoint.rs"),
        ("/home/x/registry/h2-0.4.1/src/codec.rs", "h2-0.4.1/src/codec.rs"),
        ("/a.rs", "/a.rs"),
    ] {
        assert_eq!(short(path), want);
    }
}
