//! Fail-over, and going on where a download stopped.

use std::{fs, net::TcpListener, path::Path};

use gse::{
    build::mirrors::{Error, Mirrors, Wanted},
    progress::Progress,
};
use gse_tests::liar::{self, Lie};

use crate::support::Server;

/// A port at which nobody listens, and a file of some megabytes that two servers have.
struct Files {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> =
            (0..3_000_000u32).flat_map(|n| n.to_le_bytes()).take(5_000_000).collect();
        fs::create_dir(dir.path().join("mirror")).unwrap();
        fs::write(dir.path().join("mirror/file"), &bytes).unwrap();
        fs::write(dir.path().join("mirror/small"), "small").unwrap();
        Self { dir, bytes }
    }

    fn mirror(&self) -> std::path::PathBuf {
        self.dir.path().join("mirror")
    }

    fn fetch(&self, urls: &[&str]) -> Result<Vec<u8>, Error> {
        let to = self.dir.path().join("fetched");
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        let wanted = Wanted { path: "file", size: Some(self.bytes.len() as u64), to: &to };
        let same = |path: &Path| {
            (fs::read(path).unwrap() == self.bytes).then_some(()).ok_or("wrong".to_owned())
        };
        Mirrors::new(&urls).unwrap().large(&wanted, &Progress::silent(), same)?;
        Ok(fs::read(to).unwrap())
    }

    fn part(&self) -> std::path::PathBuf {
        self.dir.path().join("fetched.part")
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_mirror_that_breaks_off_is_followed_by_the_next_from_there() {
    let files = Files::new();
    let port = free_port();
    let requests = liar::start(port, files.mirror(), Lie::Less);
    let good = Server::start(&files.mirror());
    let bad = format!("http://127.0.0.1:{port}/");
    assert_eq!(files.fetch(&[&bad, &good.url]).unwrap(), files.bytes);
    assert_eq!(requests.try_iter().count(), 1);
    assert!(!files.part().exists());
}

#[test]
fn what_was_fetched_before_is_gone_on_with() {
    let files = Files::new();
    let half = files.bytes.len() / 2;
    fs::write(files.part(), &files.bytes[..half]).unwrap();
    // Of the first half the mirror has something else: it must not be asked for.
    let mut other = files.bytes.clone();
    other[..half].fill(0);
    fs::write(files.mirror().join("file"), other).unwrap();
    let good = Server::start(&files.mirror());
    assert_eq!(files.fetch(&[&good.url]).unwrap(), files.bytes);
}

#[test]
fn a_part_that_does_not_fit_is_fetched_anew() {
    let files = Files::new();
    let good = Server::start(&files.mirror());
    for wrong in [vec![7; 1000], vec![7; files.bytes.len()], vec![7; files.bytes.len() + 1]] {
        fs::write(files.part(), wrong).unwrap();
        assert_eq!(files.fetch(&[&good.url]).unwrap(), files.bytes);
    }
}

#[test]
fn what_is_wrong_is_fetched_from_each_mirror_alone_past_those_that_fail() {
    let files = Files::new();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("file"), vec![7; files.bytes.len()]).unwrap();
    let (wrong, good) = (Server::start(other.path()), Server::start(&files.mirror()));
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    assert_eq!(files.fetch(&[&wrong.url, &nobody, &good.url]).unwrap(), files.bytes);
    let error = files.fetch(&[&wrong.url, &nobody]).unwrap_err().to_string();
    assert!(error.contains("wrong") && error.contains(&nobody), "{error}");
    assert!(!files.part().exists());
}

#[test]
fn if_all_fail_the_part_is_kept_and_each_is_named() {
    let files = Files::new();
    let (less, nobody) = (free_port(), free_port());
    let _requests = liar::start(less, files.mirror(), Lie::Less);
    let urls = [less, nobody].map(|port| format!("http://127.0.0.1:{port}/"));
    let error = files.fetch(&[&urls[0], &urls[1]]).unwrap_err().to_string();
    assert!(urls.iter().all(|url| error.contains(url)), "{error}");
    assert!(error.contains("it broke off") || error.contains("it stopped after"), "{error}");
    assert!(fs::metadata(files.part()).unwrap().len() > 0);
}

#[test]
fn a_small_file_is_taken_from_the_first_mirror_whose_one_is_good() {
    let files = Files::new();
    let broken = free_port();
    let _requests = liar::start(broken, files.mirror(), Lie::Broken);
    let good = Server::start(&files.mirror());
    let urls = [format!("http://127.0.0.1:{broken}/"), good.url.clone()];
    let mirrors = Mirrors::new(&urls).unwrap();
    let text = mirrors.small("small", 100, |bytes| Ok(bytes.to_vec())).unwrap();
    assert_eq!(text, b"small");
    let refused = mirrors.small("small", 100, |_| Err::<(), _>("not good".to_owned()));
    assert!(refused.unwrap_err().to_string().contains("not good"));
    let large = mirrors.small("file", 100, |_| Ok(()));
    assert!(large.unwrap_err().to_string().contains("more than 100 bytes"));
    mirrors.check_connection().unwrap();
    Mirrors::new(&[format!("http://127.0.0.1:{}/", free_port())])
        .unwrap()
        .check_connection()
        .unwrap_err();
}
