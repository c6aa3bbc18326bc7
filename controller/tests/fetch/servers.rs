//! Which server is taken, and which are fallen back to.

use super::*;

fn publishing(
    signer: &Signer,
    serial: u64,
    decide: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> Server {
    let toml = release(serial);
    let signature = signer.sign(Kind::Release, serial, toml.as_bytes());
    let files: [(&str, &[u8]); 2] =
        [("latest.toml", toml.as_bytes()), ("latest.toml.minisig", signature.as_bytes())];
    Server::new(&files, decide)
}

#[test]
fn the_first_that_answers_well_is_taken_and_the_rest_kept_but_for_the_bad() {
    let signer = Signer::new();
    let hanging = publishing(&signer, 3, |_| Answer::Hang);
    // The good one answers when the bad ones have: after that they have little time left.
    let (sender, answered) = mpsc::channel();
    let (from_broken, from_forged) = (sender.clone(), sender);
    let broken = publishing(&signer, 3, move |_| {
        from_broken.send(()).unwrap();
        Answer::Status(500)
    });
    let forged = publishing(&Signer::new(), 3, move |r: &Request| {
        if r.path == "latest.toml" {
            from_forged.send(()).unwrap();
        }
        Answer::Right
    });
    let answered = Mutex::new(answered);
    let good = publishing(&signer, 3, move |r: &Request| {
        if r.number == 0 {
            let answered = answered.lock().unwrap();
            (0..2).for_each(|_| answered.recv().unwrap());
        }
        Answer::Right
    });
    let all = [hanging.url(), broken.url(), forged.url(), good.url(), refused(), good.url()];
    let chosen = choose(&client(), &sources(&signer, &all)).unwrap();
    assert_eq!(chosen.release.serial, Serial(3));
    assert_eq!(chosen.servers, [good.url(), hanging.url()]);
    assert_eq!(chosen.bytes, release(3).as_bytes());
    assert!(Release::open(&chosen.bytes, &chosen.signature, &signer.keys()).is_ok());
}

#[test]
fn the_newest_release_is_taken_though_a_mirror_that_is_behind_is_quicker() {
    let signer = Signer::new();
    // The second one answers a little later than the first. It has as long for that as the first took.
    let (took, later) = (Duration::from_secs(2), Duration::from_millis(50));
    let (sender, told) = mpsc::channel();
    let (sender, told) = (Mutex::new(sender), Mutex::new(told));
    let behind = publishing(&signer, 2, move |r: &Request| {
        if r.path == "latest.toml" {
            thread::sleep(took);
            sender.lock().unwrap().send(()).unwrap();
        }
        Answer::Right
    });
    let newest = publishing(&signer, 3, move |r: &Request| {
        if r.path == "latest.toml" {
            told.lock().unwrap().recv().unwrap();
            thread::sleep(later);
        }
        Answer::Right
    });
    let hanging = publishing(&signer, 3, |_| Answer::Hang);
    let all = [behind.url(), hanging.url(), newest.url()];
    let chosen = choose(&client(), &sources(&signer, &all)).unwrap();
    assert_eq!(chosen.release.serial, Serial(3));
    assert_eq!(chosen.servers, [newest.url(), hanging.url(), behind.url()]);
}

#[test]
fn where_no_server_is_any_good_each_is_named_with_what_is_wrong() {
    let signer = Signer::new();
    let hanging = publishing(&signer, 3, |_| Answer::Hang);
    let broken = publishing(&signer, 3, |_| Answer::Status(500));
    let empty = Server::honest(&[]);
    let forged = publishing(&Signer::new(), 3, |_| Answer::Right);
    let large = publishing(&signer, 3, |r: &Request| {
        let large = vec![b'#'; 1 << 20];
        if r.path == "latest.toml" { Answer::Instead(large) } else { Answer::Right }
    });
    let nobody = refused();
    let all =
        [&hanging, &broken, &empty, &forged, &large].map(Server::url).into_iter().chain([nobody]);
    let all: Vec<String> = all.collect();
    let error = choose(&impatient(), &sources(&signer, &all)).unwrap_err();
    let text = error.to_string();
    for (server, wanted) in all.iter().zip([
        "no answer in time",
        "HTTP status 500",
        "HTTP status 404",
        "not among the trusted keys",
        "larger than 65536 bytes",
        "refused",
    ]) {
        let reason = error.reasons().find(|(s, _)| s == server).unwrap().1.to_string();
        assert!(reason.contains(wanted), "{reason}");
        assert!(text.contains(&format!("{server}: {reason}")), "{text}");
    }
    let none = choose(&client(), &sources(&signer, &[])).unwrap_err();
    assert!(none.to_string().contains("no server is named"), "{none}");
}

#[test]
fn a_release_that_is_replaced_between_two_requests_is_fetched_again() {
    let signer = Arc::new(Signer::new());
    let old = signer.sign(Kind::Release, 2, release(2).as_bytes());
    let server = publishing(&signer, 3, move |r: &Request| {
        if r.number == 0 { Answer::Instead(old.clone().into_bytes()) } else { Answer::Right }
    });
    let chosen = choose(&client(), &sources(&signer, &[server.url()])).unwrap();
    assert_eq!(chosen.release.serial, Serial(3));
    let paths: Vec<String> = server.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(paths, ["latest.toml.minisig", "latest.toml"].repeat(2));
}

#[test]
fn a_release_that_stays_forged_is_fetched_twice_and_refused() {
    let signer = Signer::new();
    let server = publishing(&signer, 3, |r: &Request| {
        if r.path == "latest.toml" { Answer::Flip(20) } else { Answer::Right }
    });
    let error = choose(&client(), &sources(&signer, &[server.url()])).unwrap_err();
    assert!(error.to_string().contains("changed or cut after it was signed"), "{error}");
    assert_eq!(server.requests().len(), 4);
}
