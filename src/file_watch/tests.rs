//! Watching files that are edited, renamed, swapped, removed and half-written.

use std::fs;

use tokio::time::sleep;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    fs::write(&path, content).unwrap();
    (folder, path)
}

/// Whether the watch stays silent for ten polls.
async fn is_silent(watch: &mut FileWatch) -> bool {
    tokio::time::timeout(INTERVAL * 10, watch.changed()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_file_is_silent() {
    let (_folder, path) = file("one");
    let mut watch = FileWatch::new(&path, INTERVAL);
    assert_eq!(watch.first_read().unwrap(), "one");
    assert!(is_silent(&mut watch).await);
    fs::write(&path, "one").unwrap();
    assert!(is_silent(&mut watch).await);
}

#[tokio::test(start_paused = true)]
async fn changes_are_returned_once() {
    let (_folder, path) = file("one");
    let mut watch = FileWatch::new(&path, INTERVAL);
    watch.first_read().unwrap();
    for content in ["two", "", "one"] {
        fs::write(&path, content).unwrap();
        assert_eq!(watch.changed().await.unwrap(), content);
        assert!(is_silent(&mut watch).await);
    }
}

#[tokio::test(start_paused = true)]
async fn half_written_files_are_waited_for() {
    let (_folder, path) = file("one");
    let mut watch = FileWatch::new(&path, INTERVAL);
    watch.first_read().unwrap();
    let write = async {
        // Between the polls: the reader has a thread of its own.
        sleep(INTERVAL / 2).await;
        for length in 1..=9 {
            fs::write(&path, &"123456789"[..length]).unwrap();
            sleep(INTERVAL).await;
        }
    };
    let (changed, ()) = tokio::join!(watch.changed(), write);
    assert_eq!(changed.unwrap(), "123456789");
}

/// What is read at once is read twice, too.
#[tokio::test(start_paused = true)]
async fn half_written_files_are_waited_for_when_they_are_read_at_once() {
    let (_folder, path) = file("one");
    let mut watch = FileWatch::new(&path, INTERVAL);
    watch.first_read().unwrap();
    let write = async {
        sleep(SETTLED / 2).await;
        for length in 1..=9 {
            fs::write(&path, &"123456789"[..length]).unwrap();
            sleep(SETTLED).await;
        }
    };
    let (read, ()) = tokio::join!(watch.read_now(), write);
    assert_eq!(read.unwrap(), "123456789");
    assert!(is_silent(&mut watch).await);
}

#[tokio::test(start_paused = true)]
async fn renames_and_symlink_swaps_are_changes() {
    let (folder, path) = file("one");
    let link = folder.path().join("..data");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut watch = FileWatch::new(&link, INTERVAL);
    watch.first_read().unwrap();

    let (other, new_link) = (folder.path().join("other"), folder.path().join("..data_tmp"));
    fs::write(&other, "two").unwrap();
    std::os::unix::fs::symlink(&other, &new_link).unwrap();
    fs::rename(&new_link, &link).unwrap();
    assert_eq!(watch.changed().await.unwrap(), "two");

    fs::write(&new_link, "three").unwrap();
    fs::rename(&new_link, &link).unwrap();
    assert_eq!(watch.changed().await.unwrap(), "three");
}

#[tokio::test(start_paused = true)]
async fn read_errors_are_returned_once_per_change() {
    let (folder, path) = file("one");
    let mut watch = FileWatch::new(&path, INTERVAL);
    watch.first_read().unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(watch.changed().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(is_silent(&mut watch).await);
    fs::create_dir(&path).unwrap();
    assert_eq!(watch.changed().await.unwrap_err().to_string(), "not a regular file");
    assert!(is_silent(&mut watch).await);
    fs::remove_dir(&path).unwrap();
    fs::write(&path, b"\xff").unwrap();
    assert_eq!(watch.changed().await.unwrap_err().kind(), ErrorKind::InvalidData);
    fs::write(&path, vec![b'x'; MAX_BYTES + 1]).unwrap();
    assert_eq!(watch.changed().await.unwrap_err().kind(), ErrorKind::FileTooLarge);
    fs::write(&path, "one").unwrap();
    assert_eq!(watch.changed().await.unwrap(), "one", "the end of the errors is told");
    drop(folder);
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_read_is_not_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    let mut watch = FileWatch::new(&path, INTERVAL);
    assert_eq!(watch.first_read().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(is_silent(&mut watch).await);
    fs::write(&path, "one").unwrap();
    assert_eq!(watch.changed().await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn cancelled_waits_lose_no_change() {
    let (_folder, path) = file("one");
    let mut watch = FileWatch::new(&path, INTERVAL);
    watch.first_read().unwrap();
    fs::write(&path, "two").unwrap();
    let once = INTERVAL + INTERVAL / 2;
    assert!(tokio::time::timeout(once, watch.changed()).await.is_err());
    assert_eq!(tokio::time::timeout(once, watch.changed()).await.unwrap().unwrap(), "two");
}
